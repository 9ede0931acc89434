package commitlog

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
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
// the padding are compared. A plain text is a section of LZ4, of which one at a time is in memory. So begin decrypts all blocks
// and checks them as it checks such a section; they are decrypted again as their entries are read.
// Source: EncryptedSegment.write, EncryptionUtils.
type encryptedSections struct {
	file, alias string
	key         *keyCipher
	iv          []byte
	cbc         cipher.BlockMode
	chain       [aes.BlockSize]byte // what cbc takes for the IV of the next block

	body   sectionBody
	left   int64         // length of the entries of the blocks that come
	memory []byte        // for a plain text
	plain  window        // that of the block being read
	block  blockSections // and its entries
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
	e := &encryptedSections{file: file, alias: d.KeyAlias, key: key, iv: d.IV, cbc: cipher.NewCBCDecrypter(key.block, d.IV),
		block: blockSections{format: lz4Format{}}}
	copy(e.chain[:], d.IV)
	return e, nil
}

func (e *encryptedSections) begin(dst []byte, body sectionBody, most int64) ([]byte, int64, error) {
	if body.left() < 4 {
		return dst, 0, &sectionError{"encrypted section", "at least 4 bytes", fmt.Sprint(body.left())}
	}
	b, err := body.next(4)
	if err != nil {
		return dst, 0, err
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n > most {
		return dst, 0, &sectionError{"length of the encrypted section's entries", fmt.Sprintf("at most %d", most), fmt.Sprint(int32(n))}
	}
	e.body, e.left = body, n
	for e.body.left() > 0 {
		if dst, err = e.nextBlock(dst); err != nil {
			return dst, 0, err
		}
	}
	if e.left > 0 {
		return dst, 0, &sectionError{"encrypted section", fmt.Sprintf("%d bytes of entries", n), fmt.Sprint(n - e.left)}
	}
	e.body, e.left, e.block.made = body, n, e.block.n
	return dst, n, nil
}

func (e *encryptedSections) more(dst []byte) ([]byte, error) {
	var err error
	for e.block.made == e.block.n {
		if e.body.left() == 0 {
			return dst, &sectionError{"encrypted section", fmt.Sprintf("%d bytes of entries more", e.left), errChanged}
		}
		if dst, err = e.nextBlock(dst); err != nil {
			return dst, err
		}
	}
	return e.block.more(dst)
}

// nextBlock begins with the next block.
func (e *encryptedSections) nextBlock(dst []byte) ([]byte, error) {
	plain, err := e.decrypt()
	if err != nil {
		return dst, err
	}
	inner := int64(binary.BigEndian.Uint32(plain))
	if inner > e.left {
		return dst, &sectionError{"length of a block's entries", fmt.Sprintf("at most %d, the rest of the section", e.left), fmt.Sprint(int32(inner))}
	}
	e.left -= inner
	e.plain = window{buf: plain}
	dst, _, err = e.block.begin(dst, sectionBody{w: &e.plain, end: int64(len(plain))}, inner)
	if bad, ok := err.(*sectionError); ok {
		bad.what, bad.expected = "encrypted block", fmt.Sprintf("%d bytes of entries, compressed by LZ4", inner)
	}
	return dst, err
}

// minPlain is the least plain text of a block: the length of its entries, twice.
const minPlain = 8

// decrypt decrypts the next block. Its plain text is valid until the next call.
func (e *encryptedSections) decrypt() (plain []byte, err error) {
	if e.body.left() < 8 {
		return nil, &sectionError{"encrypted block", "at least 8 bytes", fmt.Sprintf("%d before the end of the section", e.body.left())}
	}
	b, err := e.body.next(8)
	if err != nil {
		return nil, err
	}
	n, m := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if n%aes.BlockSize != 0 || n == 0 || n > e.body.left() {
		return nil, &sectionError{"length of the encrypted block", fmt.Sprintf("a multiple of %d, at most %d", aes.BlockSize, e.body.left()), fmt.Sprint(int32(n))}
	}
	if m < minPlain || m >= n || n-m > aes.BlockSize {
		return nil, &sectionError{"length of the block's plain text", fmt.Sprintf("%d to %d", max(minPlain, n-aes.BlockSize), n-1), fmt.Sprint(int32(m))}
	}
	if b, err = e.body.next(n); err != nil {
		return nil, err
	}
	if int64(cap(e.memory)) < n {
		e.memory = nil
		e.memory = make([]byte, roundUp(n))
	}
	plain = e.memory[:n]
	// Cipher block chaining goes on from block to block, and here each begins with the IV: the first 16 bytes are put right.
	e.cbc.CryptBlocks(plain, b)
	subtle.XORBytes(plain, plain[:aes.BlockSize], e.chain[:])
	subtle.XORBytes(plain, plain[:aes.BlockSize], e.iv)
	copy(e.chain[:], b[n-aes.BlockSize:])
	padded := true
	for _, p := range plain[m:] {
		padded = padded && p == byte(n-m)
	}
	// The length of the entries stands at the start of the plain text and again at the start of LZ4Compressor's output.
	begins := binary.BigEndian.Uint32(plain) == binary.LittleEndian.Uint32(plain[4:])
	switch {
	case padded && begins:
		e.key.proved = true
		return plain[:m], nil
	case !padded && !begins && !e.key.proved:
		// Both ends of the text are wrong, and the key has not decrypted anything yet.
		return nil, &KeyError{File: e.file, Alias: e.alias}
	case !padded:
		return nil, &sectionError{"padding of the encrypted block", fmt.Sprintf("%d bytes of that value", n-m), fmt.Sprintf("%x", plain[m:])}
	}
	return nil, &sectionError{"encrypted block", "the length of its entries twice", fmt.Sprintf("%x", plain[:minPlain])}
}
