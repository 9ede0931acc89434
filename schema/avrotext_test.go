package schema

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/linkedin/goavro/v2"
)

var (
	legalAvroName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	avroEscape    = regexp.MustCompile(`_X([0-9A-F]+)_`)
)

// originalName reverts AvroName.
func originalName(t *testing.T, avro string) string {
	t.Helper()
	if avro == "_X_" {
		return ""
	}
	return avroEscape.ReplaceAllStringFunc(avro, func(escape string) string {
		c, err := strconv.ParseInt(strings.Trim(escape, "_X"), 16, 32)
		if err != nil {
			t.Fatalf("%s in %s: %v", escape, avro, err)
		}
		return string(rune(c))
	})
}

func TestAvroName(t *testing.T) {
	for name, want := range map[string]string{
		"total":       "total",
		"Total_2":     "Total_2",
		"_hidden":     "_hidden",
		"pos_x":       "pos_x",
		"Pos_X":       "Pos_X",
		"_X":          "_X",
		"2nd":         "_X32_nd",
		"total (net)": "total_X20__X28_net_X29_",
		"größe":       "gr_XF6__XDF_e",
		"a.b":         "a_X2E_b",
		"_X20_":       "_X5F_X20_",
		"_X_":         "_X5F_X_",
		"_X.":         "_X_X2E_",
		"":            "_X_",
		"🙂":           "_X1F642_",
	} {
		if got := AvroName(name); got != want {
			t.Errorf("AvroName(%q) = %s, expected %s", name, got, want)
		}
	}
}

func FuzzAvroName(f *testing.F) {
	for _, name := range []string{"total", "", "_X20_", "_X_", "a b", "9", "_X5F_X20_", "é_X", "__X0_", "_X2 "} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !utf8.ValidString(name) {
			return // no name in CQL
		}
		avro := AvroName(name)
		if !legalAvroName.MatchString(avro) {
			t.Errorf("AvroName(%q) = %q, which is not legal", name, avro)
		}
		if back := originalName(t, avro); back != name {
			t.Errorf("AvroName(%q) = %s, which reads %q", name, avro, back)
		}
	})
}

func TestAvroNamespace(t *testing.T) {
	table := &Table{Keyspace: "1st", Name: "orders"}
	for prefix, want := range map[string]string{
		"cdc": "cdc._X31_st.orders", "cdc.eu-1": "cdc.eu_X2D_1._X31_st.orders", ".cdc.": "cdc._X31_st.orders", "": "_X31_st.orders",
	} {
		if got := AvroNamespace(prefix, table); got != want {
			t.Errorf("prefix %q: %s, expected %s", prefix, got, want)
		}
	}
}

// The forms and the fingerprints are those of Avro's own tests (share/test/data/schema-tests.txt) and of its rules.
func TestAvroCanonical(t *testing.T) {
	for _, test := range []struct {
		schema, canonical string
		fingerprint       uint64
	}{
		{`"null"`, `"null"`, 7195948357588979594},
		{` {"type" : "null"} `, `"null"`, 7195948357588979594},
		{`"int"`, `"int"`, 8247732601305521295},
		{`{"type":"int","logicalType":"date","cql":"date"}`, `"int"`, 8247732601305521295},
		{`["null", "int"]`, `["null","int"]`, 0},
		{`{"type":{"type":"array","items":{"type":"long","cql":"bigint"}}}`, `{"type":"array","items":"long"}`, 0},
		{`{"values":"Map","type":"map"}`, `{"type":"map","values":"Map"}`, 0},
		{`{"type":"fixed","size":15,"name":"foo","namespace":"x.y","doc":"d"}`, `{"name":"x.y.foo","type":"fixed","size":15}`, 0},
		{`{"type":"fixed", "name":"foo", "size":15}`, `{"name":"foo","type":"fixed","size":15}`, 1756455273707447556},
		{`{"type":"enum","symbols":["A1"],"name":"foo","namespace":"x.y"}`, `{"name":"x.y.foo","type":"enum","symbols":["A1"]}`, 0},
		{
			`{"fields":[{"default":null,"type":["null",{"name":"In","type":"record","fields":[]}],"name":"a","cql.name":"A"},{"name":"b","type":"In"},{"name":"c","type":"z.In"}],
			  "type":"record","name":"x.Out","namespace":"not.this"}`,
			`{"name":"x.Out","type":"record","fields":[{"name":"a","type":["null",{"name":"x.In","type":"record","fields":[]}]},{"name":"b","type":"x.In"},{"name":"c","type":"z.In"}]}`,
			0,
		},
	} {
		got, err := AvroCanonical(test.schema)
		if got != test.canonical || err != nil {
			t.Errorf("%s: %s, %v; expected %s", test.schema, got, err, test.canonical)
		}
		if fingerprint := AvroFingerprint(test.schema); test.fingerprint != 0 && fingerprint != test.fingerprint {
			t.Errorf("%s: fingerprint %d, expected %d", test.schema, fingerprint, test.fingerprint)
		}
	}
	for _, bad := range []string{"", "7", "{}", `{"type":"record","fields":[]}`, `{"type":"record","name":"R","fields":[{}]}`, `[null]`, `{"type":"array"}`} {
		if got, err := AvroCanonical(bad); err == nil {
			t.Errorf("%q: %s, expected an error", bad, got)
		}
		AvroFingerprint(bad)
	}
}

// goavro keeps a primitive type as an object where it had attributes, against the specification, so the comparison is
// without them.
func TestCanonicalFormIsThatOfGoavro(t *testing.T) {
	for _, table := range []*Table{ordersTable(t), nativesTable(t), nestedTable(t)} {
		for _, schema := range []string{AvroKeySchema(table, "cdc.eu"), AvroValueSchema(table, "cdc.eu")} {
			bare := regexp.MustCompile(`\{"type":("[a-z]+")(,"logicalType":"[a-z-]+")?,"cql":"[a-z]+"\}`).ReplaceAllString(schema, "$1")
			bare = regexp.MustCompile(`,"cql":"[^"]*"\}`).ReplaceAllString(bare, "}") // of arrays, maps and records
			if strings.Contains(bare, `"cql":`) {
				t.Fatalf("attributes are left: %s", bare)
			}
			codec, err := goavro.NewCodec(bare)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := AvroCanonical(schema); got != codec.CanonicalSchema() || err != nil {
				t.Errorf("canonical form %s, %v; goavro's is %s", got, err, codec.CanonicalSchema())
			}
			if got := AvroFingerprint(schema); got != codec.Rabin {
				t.Errorf("fingerprint %x, goavro's is %x", got, codec.Rabin)
			}
		}
	}
}

func FuzzAvroCanonical(f *testing.F) {
	f.Add(`{"type":"record","name":"R","fields":[{"name":"a","type":["null",{"type":"fixed","name":"F","size":3}],"default":null}]}`)
	f.Add(`{"type":{"type":"enum","name":"a.E","symbols":["A"]}}`)
	f.Add(`{"type":"map","values":{"type":"array","items":"long"}}`)
	f.Fuzz(func(t *testing.T, schema string) {
		once, err := AvroCanonical(schema)
		if err != nil || strings.ContainsAny(schema, `\`) { // escapes are in no name of a schema
			return
		}
		if twice, err := AvroCanonical(once); twice != once || err != nil {
			t.Errorf("%s has the form %s, and that the form %s, %v", schema, once, twice, err)
		}
	})
}
