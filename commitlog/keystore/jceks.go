package keystore

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// openJCEKS checks the password and takes a JCEKS keystore apart.
func openJCEKS(b []byte, password string) (map[string]entry, error) {
	if len(b) < sha1.Size {
		return nil, errors.New("the file was cut")
	}
	content, sum := b[:len(b)-sha1.Size], b[len(b)-sha1.Size:]
	h := sha1.New()
	for _, u := range utf16.Encode([]rune(password)) {
		h.Write([]byte{byte(u >> 8), byte(u)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(content)
	if subtle.ConstantTimeCompare(h.Sum(nil), sum) != 1 {
		return nil, errPassword
	}
	return parseJCEKS(content)
}

// parseJCEKS takes the content of a JCEKS keystore apart: the file without its checksum.
func parseJCEKS(b []byte) (map[string]entry, error) {
	r := reader{b: b}
	r.bytes(4, "magic")
	version := r.u32("version")
	if r.err == nil && version != 1 && version != 2 {
		return nil, fmt.Errorf("expected version 1 or 2, found %d", version)
	}
	entries := map[string]entry{}
	certificate := func() {
		if version == 2 {
			r.utf("type of a certificate")
		}
		r.bytes(int64(r.u32("length of a certificate")), "certificate")
	}
	for n := r.u32("number of entries"); n > 0 && r.err == nil; n-- {
		kind := r.u32("kind of an entry")
		alias := strings.ToLower(r.utf("alias"))
		r.bytes(8, "time")
		switch {
		case r.err != nil:
		case kind == 1:
			r.bytes(int64(r.u32("length of a private key")), "private key")
			for n := r.u32("number of certificates"); n > 0 && r.err == nil; n-- {
				certificate()
			}
			entries[alias] = other{"private key"}
		case kind == 2:
			certificate()
			entries[alias] = other{"certificate"}
		case kind == 3:
			sealed, n, err := parseObject(r.b[r.off:])
			if err != nil {
				return nil, fmt.Errorf("entry %q: %w", alias, err)
			}
			r.off += n
			entries[alias] = sealedKey{sealed}
		default:
			return nil, fmt.Errorf("entry %q: expected kind 1, 2 or 3, found %d", alias, kind)
		}
	}
	if r.err == nil && r.off < len(r.b) {
		return nil, fmt.Errorf("expected the end of the file at byte %d, found %d bytes more", r.off, len(r.b)-r.off)
	}
	return entries, r.err
}

// sealedKey is a secret key as a SealedObject.
type sealedKey struct{ object *object }

const sealAlgorithm = "PBEWithMD5AndTripleDES"

func (k sealedKey) open(password string) (secretKey, error) {
	const class = "com.sun.crypto.provider.SealedObjectForKeyProtector"
	if k.object.class.name != class {
		return secretKey{}, fmt.Errorf("expected an object of class %s, found %s", class, k.object.class.name)
	}
	if alg := k.object.text("sealAlg"); alg != sealAlgorithm {
		return secretKey{}, fmt.Errorf("expected a key sealed by %s, found %q", sealAlgorithm, alg)
	}
	var params struct {
		Salt       []byte
		Iterations int
	}
	if rest, err := asn1.Unmarshal(k.object.bytes("encodedParams"), &params); err != nil || len(rest) > 0 {
		return secretKey{}, errors.New("the parameters of its encryption are damaged")
	}
	if len(params.Salt) != 8 || params.Iterations < 1 || params.Iterations > maxIterations {
		return secretKey{}, fmt.Errorf("expected 8 bytes of salt and 1 to %d iterations, found %d and %d", maxIterations, len(params.Salt), params.Iterations)
	}
	// Java's class for such passwords refuses all others.
	if strings.ContainsFunc(password, func(c rune) bool { return c < ' ' || c > '~' }) {
		return secretKey{}, errors.New("the key's password has characters beyond ASCII, which no key of this type can have")
	}
	plain, err := unsealTripleDES(k.object.bytes("encryptedContent"), []byte(password), [8]byte(params.Salt), params.Iterations)
	if err != nil {
		return secretKey{}, err
	}
	key, n, err := parseObject(plain)
	if err != nil || n != len(plain) {
		return secretKey{}, errKeyPassword
	}
	return keyOf(key)
}

// keyOf takes a key out of an object: of the two classes that a JCEKS keystore allows, SecretKeySpec is what keytool
// makes, KeyRep what keys of other classes turn into.
func keyOf(o *object) (secretKey, error) {
	switch o.class.name {
	case "javax.crypto.spec.SecretKeySpec":
		return secretKey{o.text("algorithm"), slices.Clone(o.bytes("key"))}, nil
	case "java.security.KeyRep":
		if format := o.text("format"); format != "RAW" {
			return secretKey{}, fmt.Errorf("expected a key in format RAW, found %q", format)
		}
		return secretKey{o.text("algorithm"), slices.Clone(o.bytes("encoded"))}, nil
	}
	return secretKey{}, fmt.Errorf("expected a key of class SecretKeySpec or KeyRep, found %s", o.class.name)
}

// unsealTripleDES undoes PBEWithMD5AndTripleDES, an algorithm of Java's own: each half of the salt is hashed with the
// password over and over, and the two results together are key and IV.
// Source: com.sun.crypto.provider.PBES1Core.deriveCipherKey.
func unsealTripleDES(b, password []byte, salt [8]byte, iterations int) ([]byte, error) {
	if [4]byte(salt[:4]) == [4]byte(salt[4:]) {
		// Equal halves would make a weak key, so the first one is turned round.
		slices.Reverse(salt[:4])
	}
	var derived []byte
	for _, half := range [][]byte{salt[:4], salt[4:]} {
		h := md5.New()
		digest := half
		for range iterations {
			h.Reset()
			h.Write(digest)
			h.Write(password)
			digest = h.Sum(nil)
		}
		derived = append(derived, digest...)
	}
	block, err := des.NewTripleDESCipher(derived[:24])
	if err != nil {
		return nil, err
	}
	return unpadCBC(block, derived[24:], b)
}

// unpadCBC decrypts b in CBC mode and takes its PKCS #7 padding off. Padding that is wrong says that the key is.
func unpadCBC(block cipher.Block, iv, b []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(b) == 0 || len(b)%size != 0 {
		return nil, fmt.Errorf("expected an encrypted key of a multiple of %d bytes, found %d", size, len(b))
	}
	plain := make([]byte, len(b))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, b)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > size {
		return nil, errKeyPassword
	}
	for _, p := range plain[len(plain)-pad:] {
		if int(p) != pad {
			return nil, errKeyPassword
		}
	}
	return plain[:len(plain)-pad], nil
}

// reader reads big-endian fields. The first failure sticks; later reads give zero.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) bytes(n int64, field string) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > int64(len(r.b)-r.off) {
		r.err = fmt.Errorf("byte %d, %s: expected %d bytes, found %d before the end", r.off, field, n, len(r.b)-r.off)
		return nil
	}
	b := r.b[r.off : r.off+int(n)]
	r.off += int(n)
	return b
}

func (r *reader) u8(field string) byte {
	if b := r.bytes(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16(field string) uint16 {
	if b := r.bytes(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32(field string) uint32 {
	if b := r.bytes(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// utf reads a u16 length and a string. (Java writes NUL and what is beyond the basic plane in another way than UTF-8;
// names that we compare have neither.)
func (r *reader) utf(field string) string { return string(r.bytes(int64(r.u16(field)), field)) }
