package keystore

import (
	"crypto/aes"
	"crypto/des"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"
	"slices"
	"strings"
	"unicode/utf16"
)

// Object identifiers by their dotted text.
const (
	oidData         = "1.2.840.113549.1.7.1"
	oidShroudedKey  = "1.2.840.113549.1.12.10.1.2"
	oidCertificate  = "1.2.840.113549.1.12.10.1.3"
	oidSecret       = "1.2.840.113549.1.12.10.1.5"
	oidFriendlyName = "1.2.840.113549.1.9.20"
	oidPBES2        = "1.2.840.113549.1.5.13"
	oidPBKDF2       = "1.2.840.113549.1.5.12"
	oidSHATripleDES = "1.2.840.113549.1.12.1.3"
	oidAES          = "2.16.840.1.101.3.4.1"
	oidHMACWithSHA1 = "1.2.840.113549.2.7"
	oidAES128CBC    = "2.16.840.1.101.3.4.1.2"
	oidAES192CBC    = "2.16.840.1.101.3.4.1.22"
	oidAES256CBC    = "2.16.840.1.101.3.4.1.42"
	tagBMPString    = 30
)

// digests are the hash functions of a keystore's MAC, pseudoRandom those of PBKDF2.
var (
	digests = map[string]func() hash.Hash{
		"1.3.14.3.2.26": sha1.New, "2.16.840.1.101.3.4.2.1": sha256.New,
		"2.16.840.1.101.3.4.2.2": sha512.New384, "2.16.840.1.101.3.4.2.3": sha512.New,
	}
	pseudoRandom = map[string]func() hash.Hash{
		oidHMACWithSHA1: sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	aesKeyLength = map[string]int{oidAES128CBC: 16, oidAES192CBC: 24, oidAES256CBC: 32}
)

type pfx struct {
	Version  int
	AuthSafe contentInfo
	MAC      macData `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

type macData struct {
	MAC struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

type safeBag struct {
	Type       asn1.ObjectIdentifier
	Value      asn1.RawValue   `asn1:"tag:0,explicit"`
	Attributes []bagAttributes `asn1:"set,optional"`
}

type bagAttributes struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

type secretBag struct {
	Type  asn1.ObjectIdentifier
	Value []byte `asn1:"tag:0,explicit"`
}

// shroudedKey is an EncryptedPrivateKeyInfo.
type shroudedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// keyInfo is a PrivateKeyInfo.
type keyInfo struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

// unmarshal reads DER of which nothing is left.
func unmarshal(b []byte, v any, what string) error {
	rest, err := asn1.Unmarshal(b, v)
	if err != nil {
		return fmt.Errorf("%s: expected DER as RFC 7292 has it (as keytool writes it): %w", what, err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("%s: expected its end, found %d bytes more", what, len(rest))
	}
	return nil
}

// openPKCS12 checks the password and takes a PKCS12 keystore apart.
func openPKCS12(b []byte, password string) (map[string]entry, error) {
	p, content, err := splitPKCS12(b)
	if err != nil {
		return nil, err
	}
	if err := p.MAC.check(content, password); err != nil {
		return nil, err
	}
	return parsePKCS12(content)
}

// splitPKCS12 gives the outermost structure, and the content that its MAC is about.
func splitPKCS12(b []byte) (p pfx, content []byte, err error) {
	if err := unmarshal(b, &p, "file"); err != nil {
		return pfx{}, nil, err
	}
	if p.Version != 3 || p.AuthSafe.Type.String() != oidData {
		return pfx{}, nil, fmt.Errorf("expected version 3 with a password, found version %d of type %s", p.Version, p.AuthSafe.Type)
	}
	err = unmarshal(p.AuthSafe.Content.Bytes, &content, "content")
	return p, content, err
}

// check compares the MAC; a file without one has nothing to compare.
func (m *macData) check(content []byte, password string) error {
	if len(m.MAC.Digest) == 0 {
		return nil
	}
	newHash := digests[m.MAC.Algorithm.Algorithm.String()]
	if newHash == nil {
		return fmt.Errorf("its MAC is made by %s: expected SHA-1 or SHA-2", m.MAC.Algorithm.Algorithm)
	}
	if m.Iterations < 1 || m.Iterations > maxIterations {
		return fmt.Errorf("expected 1 to %d iterations, found %d", maxIterations, m.Iterations)
	}
	h := hmac.New(newHash, derivePKCS12(newHash, bmpPassword(password), m.Salt, 3, m.Iterations, newHash().Size()))
	h.Write(content)
	if !hmac.Equal(h.Sum(nil), m.MAC.Digest) {
		return errPassword
	}
	return nil
}

// parsePKCS12 takes the authenticated content apart. Contents that are encrypted as a whole hold certificates, and are
// left out.
func parsePKCS12(content []byte) (map[string]entry, error) {
	var infos []contentInfo
	if err := unmarshal(content, &infos, "contents"); err != nil {
		return nil, err
	}
	entries := map[string]entry{}
	for _, info := range infos {
		if info.Type.String() != oidData {
			continue
		}
		var safe []byte
		var bags []safeBag
		if err := unmarshal(info.Content.Bytes, &safe, "content"); err != nil {
			return nil, err
		}
		if err := unmarshal(safe, &bags, "bags"); err != nil {
			return nil, err
		}
		for i := range bags {
			e, err := bags[i].entry()
			if err != nil {
				return nil, err
			}
			entries[bags[i].alias()] = e
		}
	}
	return entries, nil
}

// alias is the friendlyName in lower case.
func (b *safeBag) alias() string {
	for _, a := range b.Attributes {
		var name asn1.RawValue
		if a.Type.String() != oidFriendlyName {
			continue
		}
		if _, err := asn1.Unmarshal(a.Values.Bytes, &name); err != nil || name.Tag != tagBMPString {
			continue
		}
		var units []uint16
		for i := 0; i+1 < len(name.Bytes); i += 2 {
			units = append(units, uint16(name.Bytes[i])<<8|uint16(name.Bytes[i+1]))
		}
		return strings.ToLower(string(utf16.Decode(units)))
	}
	return ""
}

func (b *safeBag) entry() (entry, error) {
	switch b.Type.String() {
	case oidShroudedKey:
		return other{"private key"}, nil
	case oidCertificate:
		return other{"certificate"}, nil
	case oidSecret:
		var s secretBag
		if err := unmarshal(b.Value.Bytes, &s, "secret"); err != nil {
			return nil, err
		}
		if s.Type.String() != oidShroudedKey {
			return other{"secret of type " + s.Type.String()}, nil
		}
		var k shroudedKey
		if err := unmarshal(s.Value, &k, "secret key"); err != nil {
			return nil, err
		}
		return &k, nil
	}
	return other{"bag of type " + b.Type.String()}, nil
}

func (k *shroudedKey) open(password string) (secretKey, error) {
	var plain []byte
	var err error
	switch k.Algorithm.Algorithm.String() {
	case oidPBES2:
		plain, err = k.openPBES2(password)
	case oidSHATripleDES:
		plain, err = k.openTripleDES(password)
	default:
		err = fmt.Errorf("it is encrypted by %s: expected PBES2 or pbeWithSHAAnd3-KeyTripleDES-CBC", k.Algorithm.Algorithm)
	}
	if err != nil {
		return secretKey{}, err
	}
	var info keyInfo
	if unmarshal(plain, &info, "key") != nil {
		return secretKey{}, errKeyPassword
	}
	algorithm := info.Algorithm.Algorithm.String()
	if algorithm == oidAES {
		algorithm = "AES"
	}
	return secretKey{algorithm, info.Key}, nil
}

// openPBES2 undoes PBES2 of RFC 8018 with PBKDF2 and AES in CBC mode.
func (k *shroudedKey) openPBES2(password string) ([]byte, error) {
	var scheme struct{ Derivation, Cipher pkix.AlgorithmIdentifier }
	if err := unmarshal(k.Algorithm.Parameters.FullBytes, &scheme, "PBES2"); err != nil {
		return nil, err
	}
	var derivation struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if name := scheme.Derivation.Algorithm.String(); name != oidPBKDF2 {
		return nil, fmt.Errorf("its key is derived by %s: expected PBKDF2", name)
	}
	if err := unmarshal(scheme.Derivation.Parameters.FullBytes, &derivation, "PBKDF2"); err != nil {
		return nil, err
	}
	prf := sha1.New
	if len(derivation.PRF.Algorithm) > 0 {
		if prf = pseudoRandom[derivation.PRF.Algorithm.String()]; prf == nil {
			return nil, fmt.Errorf("its key is derived by PBKDF2 with %s: expected SHA-1 or SHA-2", derivation.PRF.Algorithm)
		}
	}
	if derivation.Iterations < 1 || derivation.Iterations > maxIterations {
		return nil, fmt.Errorf("expected 1 to %d iterations, found %d", maxIterations, derivation.Iterations)
	}
	length := aesKeyLength[scheme.Cipher.Algorithm.String()]
	var iv []byte
	if length == 0 || unmarshal(scheme.Cipher.Parameters.FullBytes, &iv, "IV") != nil || len(iv) != aes.BlockSize {
		return nil, fmt.Errorf("it is encrypted by %s: expected AES in CBC mode with an IV of 16 bytes", scheme.Cipher.Algorithm)
	}
	key, err := pbkdf2.Key(prf, password, derivation.Salt, derivation.Iterations, length)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return unpadCBC(block, iv, k.Data)
}

// openTripleDES undoes pbeWithSHAAnd3-KeyTripleDES-CBC of RFC 7292, which keytool used before Java 16.
func (k *shroudedKey) openTripleDES(password string) ([]byte, error) {
	var params struct {
		Salt       []byte
		Iterations int
	}
	if err := unmarshal(k.Algorithm.Parameters.FullBytes, &params, "pbeWithSHAAnd3-KeyTripleDES-CBC"); err != nil {
		return nil, err
	}
	if params.Iterations < 1 || params.Iterations > maxIterations {
		return nil, fmt.Errorf("expected 1 to %d iterations, found %d", maxIterations, params.Iterations)
	}
	bmp := bmpPassword(password)
	block, err := des.NewTripleDESCipher(derivePKCS12(sha1.New, bmp, params.Salt, 1, params.Iterations, 24))
	if err != nil {
		return nil, err
	}
	return unpadCBC(block, derivePKCS12(sha1.New, bmp, params.Salt, 2, params.Iterations, des.BlockSize), k.Data)
}

// bmpPassword is a password in UTF-16BE with two zero bytes at its end.
func bmpPassword(password string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(password)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return append(b, 0, 0)
}

// derivePKCS12 derives size bytes for a purpose: 1 a key, 2 an IV, 3 the key of a MAC. Source: RFC 7292, appendix B.2.
func derivePKCS12(newHash func() hash.Hash, password, salt []byte, purpose byte, iterations, size int) []byte {
	h := newHash()
	v := h.BlockSize()
	diversifier := slices.Repeat([]byte{purpose}, v)
	input := append(fill(salt, v), fill(password, v)...)
	var derived []byte
	for {
		a := append(slices.Clone(diversifier), input...)
		for range iterations {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		if derived = append(derived, a...); len(derived) >= size {
			return derived[:size]
		}
		// Every block of the input grows by a, repeated to its length, plus one.
		b := fill(a, v)[:v]
		for block := range slices.Chunk(input, v) {
			carry := 1
			for i := v - 1; i >= 0; i-- {
				carry += int(block[i]) + int(b[i])
				block[i], carry = byte(carry), carry>>8
			}
		}
	}
}

// fill repeats b up to the next multiple of n; nothing stays nothing.
func fill(b []byte, n int) []byte {
	if len(b) == 0 {
		return nil
	}
	size := (len(b) + n - 1) / n * n
	return slices.Repeat(b, (size+len(b)-1)/len(b))[:size]
}
