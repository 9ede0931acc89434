package segment

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"cassdelta/commitlog"
	"cassdelta/commitlog/keystore"
)

// KeystoreFlags name the keystore with the keys of encrypted segments, or give the keys.
type KeystoreFlags struct {
	Keystore         string   `placeholder:"FILE" help:"Keystore with the keys of encrypted segments: the one of transparent_data_encryption_options in the node's cassandra.yaml. Empty: none."`
	KeystoreType     string   `placeholder:"TYPE" help:"store_type there: JCEKS, PKCS12 or JKS (which Java lets be PKCS12). Empty: what the file is."`
	KeystorePassword string   `placeholder:"SECRET" help:"keystore_password there; better not given on the command line, which others on the machine can see."`
	KeyPassword      string   `placeholder:"SECRET" help:"key_password there. Empty: the same as that of the keystore."`
	RawKey           []string `placeholder:"ALIAS=HEX" help:"Keys instead of a keystore: for each alias (key_alias) the AES key of 16, 24 or 32 bytes in hex; better not given on the command line either."`
}

// Keys opens the keystore, or takes the keys that are given; nil if there are neither. Errors hold no key.
func (f *KeystoreFlags) Keys() (commitlog.Keys, error) {
	switch {
	case f.Keystore != "" && len(f.RawKey) > 0:
		return nil, errors.New("expected a keystore or raw keys, found both")
	case len(f.RawKey) > 0:
		return rawKeys(f.RawKey)
	case f.Keystore == "":
		return nil, nil
	}
	store, err := keystore.Open(keystore.Config{
		Path: f.Keystore, Type: f.KeystoreType, StorePassword: f.KeystorePassword, KeyPassword: f.KeyPassword,
	})
	if err != nil {
		return nil, err
	}
	return store, nil
}

// rawKeys reads keys of the form ALIAS=HEX. An alias may have a = in it.
func rawKeys(given []string) (commitlog.RawKeys, error) {
	keys := commitlog.RawKeys{}
	for i, text := range given {
		at := strings.LastIndexByte(text, '=')
		if at < 1 {
			return nil, fmt.Errorf("raw key %d: expected the form ALIAS=HEX", i+1)
		}
		alias := text[:at]
		key, err := hex.DecodeString(text[at+1:])
		if err != nil {
			return nil, fmt.Errorf("raw key %q: expected hexadecimal digits, two for each byte", alias)
		}
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("raw key %q: expected 16, 24 or 32 bytes, found %d", alias, n)
		}
		if keys[alias] != nil {
			return nil, fmt.Errorf("raw key %q is given twice", alias)
		}
		keys[alias] = key
	}
	return keys, nil
}
