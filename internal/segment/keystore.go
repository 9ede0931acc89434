package segment

import (
	"cassdelta/commitlog"
	"cassdelta/commitlog/keystore"
)

// KeystoreFlags name the keystore with the keys of encrypted segments.
type KeystoreFlags struct {
	Keystore         string `placeholder:"FILE" help:"Keystore with the keys of encrypted segments: the one of transparent_data_encryption_options in the node's cassandra.yaml. Empty: none."`
	KeystoreType     string `placeholder:"TYPE" help:"store_type there: JCEKS or PKCS12. Empty: what the file is."`
	KeystorePassword string `placeholder:"SECRET" help:"keystore_password there; better not given on the command line, which others on the machine can see."`
	KeyPassword      string `placeholder:"SECRET" help:"key_password there. Empty: the same as that of the keystore."`
}

// Keys opens the keystore; nil if none is named.
func (f *KeystoreFlags) Keys() (commitlog.Keys, error) {
	if f.Keystore == "" {
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
