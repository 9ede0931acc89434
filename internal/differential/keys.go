package differential

import (
	"context"
	"fmt"

	"cassdelta/commitlog/keystore"
	"cassdelta/internal/testparts"
)

// keys is a keystore with a key for the commit log, as an administrator makes it.
type keys struct {
	path string
	// storeType is store_type, fileType what keytool made. Java reads PKCS12 as JKS too.
	storeType, fileType string
	// alias is that of the key, chunkKiB the chunk_length_kb of the commit log.
	alias    string
	chunkKiB int
	// storePassword and keyPassword protect the file and the key.
	storePassword, keyPassword string
}

// makeKeys draws a type of keystore, a key size and a chunk size, and makes the keystore.
func makeKeys(ctx context.Context, g *generator, path string) (*keys, error) {
	k := &keys{
		path: path, alias: "differential:1", chunkKiB: pick(g, []int{1, 4, 64}), storeType: pick(g, []string{"JCEKS", "PKCS12", "JKS"}),
		fileType: "PKCS12", storePassword: "password-of-the-store", keyPassword: "password-of-the-store",
	}
	if k.storeType == "JCEKS" {
		k.fileType, k.keyPassword = "JCEKS", "password-of-the-key" // those of PKCS12 are one
	}
	return k, testparts.Keytool(ctx, "-genseckey", "-alias", k.alias, "-keyalg", "AES", "-keysize", fmt.Sprint(pick(g, []int{128, 192, 256})),
		"-storetype", k.fileType, "-keystore", path, "-storepass", k.storePassword, "-keypass", k.keyPassword)
}

// yaml is transparent_data_encryption_options.
func (k *keys) yaml() map[string]any {
	return map[string]any{
		"enabled":         true,
		"chunk_length_kb": k.chunkKiB,
		"cipher":          "AES/CBC/PKCS5Padding",
		"key_alias":       k.alias,
		"key_provider": []any{map[string]any{
			"class_name": "org.apache.cassandra.security.JKSKeyProvider",
			"parameters": []any{map[string]any{
				"keystore": k.path, "store_type": k.storeType, "keystore_password": k.storePassword, "key_password": k.keyPassword,
			}},
		}},
	}
}

// open opens the keystore as cassdelta does.
func (k *keys) open() (*keystore.Store, error) {
	return keystore.Open(keystore.Config{Path: k.path, Type: k.storeType, StorePassword: k.storePassword, KeyPassword: k.keyPassword})
}
