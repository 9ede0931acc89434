// Package keystore reads AES keys from Java keystores, as Cassandra's JKSKeyProvider does for its encrypted commit log.
//
// # JCEKS
//
// What Cassandra's own configuration names. All integers are big-endian; a string is a u16 length and UTF-8.
//
//	magic cececece, u32 version (1 or 2), u32 number of entries
//	each entry: u32 kind, string alias, u64 milliseconds
//	    1  private key: u32 length, key; u32 number of certificates, certificates
//	    2  certificate: string type (version 2), u32 length, bytes
//	    3  secret key: a serialized Java object (type object), which has no length of its own
//	20 bytes SHA-1 of: password in UTF-16BE, "Mighty Aphrodite", all of the above
//
// The object of a secret key is a javax.crypto.SealedObject: PBE parameters (salt and number of iterations), and bytes
// that PBEWithMD5AndTripleDES made of another serialized object, the key. Source: com.sun.crypto.provider's JceKeyStore
// and KeyProtector.
//
// # PKCS12
//
// RFC 7292, in the form that keytool writes: a secret key is a SecretBag that holds an EncryptedPrivateKeyInfo, made by
// PBES2 (PBKDF2 and AES-CBC) or, by old versions, with PKCS #12's own derivation and Triple DES. Source:
// sun.security.pkcs12.PKCS12KeyStore.
//
// # JKS
//
// A file in JKS's own form cannot hold secret keys, so it is refused by name. But Java's KeyStore of type JKS reads a PKCS12 file
// as well, as long as keystore.type.compat is on, as it is unless told otherwise, and so a cassandra.yaml with store_type JKS
// can work: with PKCS12 in the file. That is read. Source: sun.security.util.KeyStoreDelegator.
//
// What is read is checked against the password before it is taken apart, and nothing that a file says makes the package
// take more memory than the file's size.
package keystore

import (
	"bytes"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// maxFile bounds the size of a keystore; one with a hundred keys has some 50 kB.
const maxFile = 16 << 20

// maxIterations bounds the work that a file can ask for. Source: javax.crypto's own bound.
const maxIterations = 5_000_000

// Config names a keystore, in the words of the parameters of key_provider in cassandra.yaml.
type Config struct {
	// Path is keystore, the path of the file.
	Path string
	// Type is store_type: JCEKS, PKCS12 or JKS, in upper or lower case; "" takes what the file is.
	Type string
	// StorePassword is keystore_password.
	StorePassword string
	// KeyPassword is key_password; "" means StorePassword.
	KeyPassword string
}

// Store is an open keystore. Its keys are decrypted when they are first asked for. It may be used by several
// goroutines.
type Store struct {
	path        string
	keyPassword string
	entries     map[string]entry // by alias in lower case, as Java has it

	mu   sync.Mutex
	keys map[string][]byte // those decrypted
}

// entry is an encrypted key.
type entry interface {
	// open decrypts the key.
	open(password string) (secretKey, error)
}

// secretKey is a decrypted key.
type secretKey struct {
	algorithm string
	key       []byte
}

// other is an entry that is no secret key.
type other struct{ what string }

func (o other) open(string) (secretKey, error) {
	return secretKey{}, fmt.Errorf("it is a %s, expected a secret key (keytool -genseckey -keyalg AES)", o.what)
}

var (
	errPassword    = errors.New("the keystore's password is wrong, or the file is damaged: expected keystore_password of cassandra.yaml")
	errKeyPassword = errors.New("the key's password is wrong: expected key_password of cassandra.yaml")
)

// Open reads a keystore. The error says what is wrong with it, and never holds a password.
func Open(c Config) (*Store, error) {
	f, err := os.Open(c.Path)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("keystore %s: expected at most %d bytes, found more", c.Path, maxFile)
	}
	entries, err := parse(b, c.Type, c.StorePassword)
	if err != nil {
		return nil, fmt.Errorf("keystore %s: %w", c.Path, err)
	}
	s := &Store{path: c.Path, keyPassword: c.KeyPassword, entries: entries, keys: map[string][]byte{}}
	if s.keyPassword == "" {
		s.keyPassword = c.StorePassword
	}
	return s, nil
}

// parse takes a file apart.
func parse(b []byte, kind, password string) (map[string]entry, error) {
	found := "JCEKS"
	switch {
	case bytes.HasPrefix(b, []byte{0xce, 0xce, 0xce, 0xce}):
	case bytes.HasPrefix(b, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return nil, errors.New("it has the form JKS, which cannot hold secret keys: expected JCEKS or PKCS12; " +
			"keytool -importkeystore copies keys from one type to another")
	case bytes.HasPrefix(b, []byte{0x30}):
		found = "PKCS12"
	default:
		return nil, errors.New("expected a keystore of type JCEKS or PKCS12, found something else")
	}
	switch kind = strings.ToUpper(kind); {
	case kind == "", kind == found, kind == "JKS" && found == "PKCS12": // Java takes either for the other
	case kind == "JCEKS", kind == "PKCS12", kind == "JKS":
		return nil, fmt.Errorf("expected a keystore of type %s, found %s: correct store_type", kind, found)
	default:
		return nil, fmt.Errorf("expected type JCEKS or PKCS12, found %q", kind)
	}
	if found == "JCEKS" {
		return openJCEKS(b, password)
	}
	return openPKCS12(b, password)
}

// Key gives the AES key with that alias; case does not matter.
func (s *Store) Key(alias string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(alias)
	if key := s.keys[name]; key != nil {
		return key, nil
	}
	e := s.entries[name]
	if e == nil {
		return nil, fmt.Errorf("keystore %s has no such key, only %q", s.path, slices.Sorted(maps.Keys(s.entries)))
	}
	k, err := e.open(s.keyPassword)
	if err != nil {
		return nil, fmt.Errorf("keystore %s, key %q: %w", s.path, alias, err)
	}
	if !strings.EqualFold(k.algorithm, "AES") && !strings.EqualFold(k.algorithm, "Rijndael") {
		return nil, fmt.Errorf("keystore %s, key %q: expected a key for AES, found one for %q", s.path, alias, k.algorithm)
	}
	if _, err := aes.NewCipher(k.key); err != nil {
		return nil, fmt.Errorf("keystore %s, key %q: expected 16, 24 or 32 bytes, found %d", s.path, alias, len(k.key))
	}
	s.keys[name] = k.key
	return k.key, nil
}
