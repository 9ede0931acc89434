package commitlog

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// Keys finds the keys of encrypted segments; package keystore reads them from the files that Cassandra has them in.
type Keys interface {
	// Key gives the AES key (16, 24 or 32 bytes) with that alias. Its error says what to do; passwords are not in it.
	Key(alias string) ([]byte, error)
}

// RawKeys are keys by alias.
type RawKeys map[string][]byte

// Key implements [Keys].
func (k RawKeys) Key(alias string) ([]byte, error) {
	key, ok := k[alias]
	if !ok {
		return nil, fmt.Errorf("there is no key %q among the %d keys given", alias, len(k))
	}
	return key, nil
}

// cipherName is the one transformation that is read, and that Cassandra's documentation names.
const cipherName = "AES/CBC/PKCS5Padding"

// keyring makes ciphers of keys, each once, and remembers which have proved right.
type keyring struct {
	keys    Keys // nil: there are none
	ciphers map[string]*keyCipher
}

// keyCipher is the cipher of one key.
type keyCipher struct {
	block cipher.Block
	// proved says that the key has decrypted something, so what it does not decrypt is damaged.
	proved bool
}

func newKeyring(keys Keys) *keyring { return &keyring{keys: keys, ciphers: map[string]*keyCipher{}} }

// cipher finds the cipher for an alias.
func (k *keyring) cipher(alias string) (*keyCipher, error) {
	if c := k.ciphers[alias]; c != nil {
		return c, nil
	}
	if k.keys == nil {
		return nil, errNoKeys
	}
	key, err := k.keys.Key(alias)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("a key of %d bytes is none of AES, which takes 16, 24 or 32", len(key))
	}
	c := &keyCipher{block: block}
	k.ciphers[alias] = c
	return c, nil
}

// encryptedSections decodes the sections of a segment with transparent_data_encryption_options. The body of a section
// is
//
//	Offset  Size  Field
//	0       4     length of the entries
//	4             blocks, each of at most chunk_length_kb of the entries:
//
//	Offset  Size  Field of a block
//	0       4     n, length of the cipher text: a multiple of 16
//	4       4     m, length of the plain text without its padding of 1 to 16 bytes
//	8       n     cipher text: AES in CBC mode with PKCS #5 padding; every block begins with the same IV, that of the header
//
//	Offset  Size  Field of a plain text
//	0       4     length of the entries in it
//	4       m-4   what LZ4Compressor made of them
//
// Entries span blocks. Nothing but the entries' own checksums covers these bytes; lengths that stand there twice and
// the padding are compared. Source: EncryptedSegment.write, EncryptionUtils.
type encryptedSections struct {
	file, alias string
	key         *keyCipher
	iv          []byte
	plain       []byte // the plain text of one block
}

// newEncryptedSections makes the decoder of a segment with this header.
func newEncryptedSections(file string, d Descriptor, keys *keyring) (*encryptedSections, error) {
	if d.Cipher != cipherName {
		return nil, &UnsupportedError{File: file, What: fmt.Sprintf("encryption (%s; this program reads %s)", d.Cipher, cipherName)}
	}
	if len(d.IV) != aes.BlockSize {
		return nil, &DamagedError{File: file, Offset: headerFixed, What: "encIV in the header",
			Expected: fmt.Sprintf("%d bytes", aes.BlockSize), Found: fmt.Sprint(len(d.IV))}
	}
	key, err := keys.cipher(d.KeyAlias)
	if err != nil {
		return nil, &KeyError{File: file, Alias: d.KeyAlias, Err: err}
	}
	return &encryptedSections{file: file, alias: d.KeyAlias, key: key, iv: d.IV}, nil
}

func (e *encryptedSections) decode(dst, body []byte, most int64) ([]byte, error) {
	if len(body) < 4 {
		return dst, &sectionError{"encrypted section", "at least 4 bytes", fmt.Sprint(len(body))}
	}
	n := binary.BigEndian.Uint32(body)
	if int64(n) > most {
		return dst, &sectionError{"length of the encrypted section's entries", fmt.Sprintf("at most %d", most), fmt.Sprint(int32(n))}
	}
	out, left := dst, int(n)
	for body = body[4:]; len(body) > 0; {
		length, block, err := e.block(body)
		if err != nil {
			return dst, err
		}
		body = body[length:]
		inner := binary.BigEndian.Uint32(block)
		if int64(inner) > int64(left) {
			return dst, &sectionError{"length of a block's entries", fmt.Sprintf("at most %d, the rest of the section", left), fmt.Sprint(int32(inner))}
		}
		if out, err = decompressLZ4(out, block[4:], int(inner)); err != nil {
			return dst, &sectionError{"encrypted block", fmt.Sprintf("%d bytes of entries, compressed by LZ4", inner), err.Error()}
		}
		left -= int(inner)
	}
	if left > 0 {
		return dst, &sectionError{"encrypted section", fmt.Sprintf("%d bytes of entries", n), fmt.Sprint(int(n) - left)}
	}
	return out, nil
}

// minPlain is the least plain text of a block: the length of its entries, twice.
const minPlain = 8

// block decrypts the first block of b, and gives its length and its plain text, which is valid until the next call.
func (e *encryptedSections) block(b []byte) (length int, plain []byte, err error) {
	if len(b) < 8 {
		return 0, nil, &sectionError{"encrypted block", "at least 8 bytes", fmt.Sprintf("%d before the end of the section", len(b))}
	}
	n, m := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if n%aes.BlockSize != 0 || n == 0 || n > int64(len(b)-8) {
		return 0, nil, &sectionError{"length of the encrypted block", fmt.Sprintf("a multiple of %d, at most %d", aes.BlockSize, len(b)-8), fmt.Sprint(int32(n))}
	}
	if m < minPlain || m >= n || n-m > aes.BlockSize {
		return 0, nil, &sectionError{"length of the block's plain text", fmt.Sprintf("%d to %d", max(minPlain, n-aes.BlockSize), n-1), fmt.Sprint(int32(m))}
	}
	if int64(cap(e.plain)) < n {
		e.plain = make([]byte, n)
	}
	plain = e.plain[:n]
	cipher.NewCBCDecrypter(e.key.block, e.iv).CryptBlocks(plain, b[8:8+n])
	padded := true
	for _, p := range plain[m:] {
		padded = padded && p == byte(n-m)
	}
	// The length of the entries stands at the start of the plain text and again at the start of LZ4Compressor's output.
	begins := binary.BigEndian.Uint32(plain) == binary.LittleEndian.Uint32(plain[4:])
	switch {
	case padded && begins:
		e.key.proved = true
		return int(8 + n), plain[:m], nil
	case !padded && !begins && !e.key.proved:
		// Both ends of the text are wrong, and the key has not decrypted anything yet.
		return 0, nil, &KeyError{File: e.file, Alias: e.alias}
	case !padded:
		return 0, nil, &sectionError{"padding of the encrypted block", fmt.Sprintf("%d bytes of that value", n-m), fmt.Sprintf("%x", plain[m:])}
	}
	return 0, nil, &sectionError{"encrypted block", "the length of its entries twice", fmt.Sprintf("%x", plain[:minPlain])}
}
