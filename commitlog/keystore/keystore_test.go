package keystore

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The keystores under testdata are keytool's, of Java 17: mixed.jceks and modern.p12 hold the two AES keys, a key pair,
// and (mixed.jceks) a certificate and a key for Triple DES; legacy.p12 holds the AES keys as Java 8 wrote them
// (-J-Dkeystore.pkcs12.legacy); pair.jks a key pair. KeyStore.getKey gave these values.
const (
	storePassword = "cassandra-store"
	keyPassword   = "cassandra-key"
)

var aesKeys = map[string]string{
	"testing:1": "6f1c7587cced1a3d118caf10f1cfb832",
	"testing:2": "fa1920ff54a3ee91d9af89aa1d0f1fbaf7056604ad506872be8cc801d3ea8909",
	"Testing:1": "6f1c7587cced1a3d118caf10f1cfb832",
}

func TestKeys(t *testing.T) {
	for _, c := range []Config{
		{"testdata/mixed.jceks", "JCEKS", storePassword, keyPassword},
		{"testdata/mixed.jceks", "", storePassword, keyPassword},
		{"testdata/modern.p12", "PKCS12", storePassword, ""},
		{"testdata/modern.p12", "JKS", storePassword, ""},
		{"testdata/legacy.p12", "pkcs12", storePassword, storePassword},
		{"../../testdata/recordings/forms-5.0/keystore.jceks", "jceks", storePassword, keyPassword},
	} {
		s, err := Open(c)
		if err != nil {
			t.Errorf("%s: %v", c.Path, err)
			continue
		}
		for range 2 { // the second time from memory
			for alias, want := range aesKeys {
				key, err := s.Key(alias)
				if err != nil || hex.EncodeToString(key) != want {
					t.Errorf("%s: %s: expected %s, found %x, %v", c.Path, alias, want, key, err)
				}
			}
		}
	}
}

// TestErrors: each says what is wrong, and none holds a password.
func TestErrors(t *testing.T) {
	const wrong = "some-wrong-password"
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		Config
		alias, want string
	}{
		{Config{"testdata/none.jceks", "JCEKS", storePassword, keyPassword}, "", "no such file"},
		{Config{empty, "JCEKS", storePassword, keyPassword}, "", "something else"},
		{Config{"keystore.go", "JCEKS", storePassword, keyPassword}, "", "something else"},
		{Config{"testdata/pair.jks", "JKS", storePassword, keyPassword}, "", "the form JKS, which cannot hold secret keys"},
		{Config{"testdata/mixed.jceks", "JKS", storePassword, keyPassword}, "", "expected a keystore of type JKS, found JCEKS"},
		{Config{"testdata/mixed.jceks", "PKCS12", storePassword, keyPassword}, "", "expected a keystore of type PKCS12, found JCEKS"},
		{Config{"testdata/modern.p12", "JCEKS", storePassword, ""}, "", "expected a keystore of type JCEKS, found PKCS12"},
		{Config{"testdata/modern.p12", "BKS", storePassword, ""}, "", `found "BKS"`},
		{Config{"testdata/mixed.jceks", "JCEKS", wrong, keyPassword}, "", "keystore's password is wrong"},
		{Config{"testdata/modern.p12", "PKCS12", wrong, keyPassword}, "", "keystore's password is wrong"},
		{Config{"testdata/legacy.p12", "PKCS12", wrong, keyPassword}, "", "keystore's password is wrong"},
		{Config{"testdata/mixed.jceks", "JCEKS", storePassword, wrong}, "testing:1", "key's password is wrong"},
		{Config{"testdata/mixed.jceks", "JCEKS", storePassword, "pässword"}, "testing:1", "beyond ASCII"},
		{Config{"testdata/modern.p12", "PKCS12", storePassword, wrong}, "testing:1", "key's password is wrong"},
		{Config{"testdata/legacy.p12", "PKCS12", storePassword, wrong}, "testing:1", "key's password is wrong"},
		{Config{"testdata/mixed.jceks", "JCEKS", storePassword, keyPassword}, "testing:3", `only ["desede" "pair" "testing:1" "testing:2" "trusted"]`},
		{Config{"testdata/mixed.jceks", "JCEKS", storePassword, keyPassword}, "pair", "it is a private key"},
		{Config{"testdata/mixed.jceks", "JCEKS", storePassword, keyPassword}, "trusted", "it is a certificate"},
		{Config{"testdata/mixed.jceks", "JCEKS", storePassword, keyPassword}, "desede", `found one for "DESede"`},
		{Config{"testdata/modern.p12", "PKCS12", storePassword, ""}, "pair", "it is a private key"},
	} {
		s, err := Open(c.Config)
		if err == nil && c.alias != "" {
			_, err = s.Key(c.alias)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, type %s, key %q: expected an error with %q, found %v", c.Path, c.Type, c.alias, c.want, err)
			continue
		}
		for _, secret := range []string{storePassword, keyPassword, wrong, "pässword"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error has a password: %v", err)
			}
		}
		if c.Type != "" && !strings.Contains(err.Error(), c.Path) {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}

// TestDamagedFiles: whatever byte is wrong, the file is refused or has the very same keys (the checksum of a PKCS12 file
// does not cover how it is named itself); wherever it is cut, it is refused.
func TestDamagedFiles(t *testing.T) {
	for _, name := range []string{"mixed.jceks", "modern.p12", "legacy.p12"} {
		good, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		// The derivation of PKCS #12 takes 10,000 rounds a time.
		step := 1
		if strings.HasSuffix(name, ".p12") {
			step = 13
		}
		for i := 0; i < len(good); i += step {
			b := bytes.Clone(good)
			b[i] ^= 1 << (i % 8)
			if entries, err := parse(b, "", storePassword); err == nil {
				k, err := entries["testing:1"].open(storePassword)
				if err != nil || hex.EncodeToString(k.key) != aesKeys["testing:1"] {
					t.Errorf("%s: byte %d is wrong, and the key is %x, %v", name, i, k.key, err)
				}
			}
			if entries, err := parse(good[:i], "", storePassword); err == nil {
				t.Errorf("%s: cut at %d, and %d entries were found", name, i, len(entries))
			}
		}
	}
}

// TestJavaObjects reads keys as java.io.ObjectOutputStream wrote them.
func TestJavaObjects(t *testing.T) {
	const (
		class  = "aced0005" + "7372" + "001f6a617661782e63727970746f2e737065632e5365637265744b657953706563" + "5b470b66e230614d" + "02"
		fields = "0002" + "4c0009616c676f726974686d" + "7400124c6a6176612f6c616e672f537472696e673b" + "5b00036b6579" + "7400025b42"
		values = "740003414553" + "7572" + "00025b42acf317f8060854e00200007870" + "00000010" + "000102030405060708090a0b0c0d0e0f"
		keyRep = "aced0005737200146a6176612e73656375726974792e4b6579526570bdf94fb3889aa5430200044c0009616c676f726974686d7400124c6a6176612f6c616e672f537472696e673b" +
			"5b0007656e636f6465647400025b424c0006666f726d617471007e00014c00047479706574001b4c6a6176612f73656375726974792f4b657952657024547970653b7870740003414553" +
			"757200025b42acf317f8060854e002000078700000001000000000000000000000000000000000740003524157" +
			"7e7200196a6176612e73656375726974792e4b6579526570245479706500000000000000001200007872000e6a6176612e6c616e672e456e756d00000000000000001200007870740006534543524554"
	)
	for _, c := range []struct{ name, hex, want string }{
		{"SecretKeySpec", class + fields + "7870" + values, "AES 000102030405060708090a0b0c0d0e0f"},
		{"KeyRep", keyRep, "AES 00000000000000000000000000000000"},
		{"another class", strings.Replace(class, "1f6a6176", "1f6a6177", 1) + fields + "7870" + values, "expected a key of class SecretKeySpec or KeyRep"},
		{"another stream", "aced0006" + values, "expected a serialized Java object"},
		{"a string", "aced0005740003414553", "found another value"},
		{"a method of its own", class[:len(class)-2] + "03" + fields + "7870" + values, "has flags 03"},
		{"an annotation", class + fields + "77017870" + values, "annotations"},
		{"a class that is its own superclass", class + fields + "7871007e0000" + values, "too many superclasses"},
		{"an array as long as nothing", class + fields + "7870" + strings.Replace(values, "00000010", "7fffffff", 1), "expected 2147483647 bytes"},
		{"a reference to nothing", class + fields + "7870" + "71007e0099", "not there"},
		{"nested objects", class + fields + "7870" + strings.Repeat("7371007e0000", 40), "too deep"},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		if o, n, err := parseObject(b); err != nil {
			found = err.Error()
		} else if k, err := keyOf(o); err != nil {
			found = err.Error()
		} else {
			found = k.algorithm + " " + hex.EncodeToString(k.key)
			if n != len(b) {
				t.Errorf("%s: %d of %d bytes were read", c.name, n, len(b))
			}
		}
		if !strings.Contains(found, c.want) {
			t.Errorf("%s: expected %q, found %q", c.name, c.want, found)
		}
	}
}

// TestEqualHalvesOfASalt: Java makes another key of them than of others. javax.crypto.Cipher made these bytes.
func TestEqualHalvesOfASalt(t *testing.T) {
	sealed := []byte{0x9b, 0x6b, 0x77, 0x8d, 0x26, 0x8f, 0xe4, 0x64}
	plain, err := unsealTripleDES(sealed, []byte("password"), [8]byte{1, 2, 3, 4, 1, 2, 3, 4}, 3)
	if err != nil || string(plain) != "hello" {
		t.Errorf("found %q, %v", plain, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, c := range []Config{{"testdata/mixed.jceks", "", storePassword, keyPassword}, {"testdata/modern.p12", "", storePassword, ""}} {
		b.Run(filepath.Ext(c.Path), func(b *testing.B) {
			for b.Loop() {
				s, err := Open(c)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Key("testing:1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
