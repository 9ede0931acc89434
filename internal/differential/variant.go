package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Variant is a way in which Cassandra writes commit logs.
type Variant struct {
	version version
	form    form
}

// Name is version/form, such as 5.0-v8/plain.
func (v Variant) Name() string { return v.version.name + "/" + v.form.name }

// version is a version of Cassandra, with the settings that make it write another version of the commit log.
type version struct {
	name string
	// cassandra is the version of [testparts.CassandraOptions].
	cassandra string
	yaml      map[string]any
	vectors   bool
	// lastExpiry is the last second since 1970 at which something can expire.
	lastExpiry int64
}

// form is the form of the sections of a segment.
type form struct {
	name string
	yaml map[string]any
	// class is that of the compressor, "" for none; parameters are the options of it that a run draws from, each as Cassandra's
	// compressor takes it.
	class      string
	parameters map[string][]string
	// since50 says that versions before 5.0 have not got it.
	since50 bool
	// encrypted says that a keystore is needed.
	encrypted bool
}

// The last seconds since 1970 that commit logs of versions 7 and 8 can name. Source: Cell.MAX_DELETION_TIME.
const (
	lastExpiryV7 = 1<<31 - 2
	lastExpiryV8 = 1<<32 - 3
)

var versions = []version{
	{name: "4.0", cassandra: "4.0", lastExpiry: lastExpiryV7},
	{name: "4.1", cassandra: "4.1", lastExpiry: lastExpiryV7},
	{name: "5.0", cassandra: "5.0", lastExpiry: lastExpiryV7, vectors: true},
	{name: "5.0-v8", cassandra: "5.0", lastExpiry: lastExpiryV8, vectors: true, yaml: map[string]any{"storage_compatibility_mode": "NONE"}},
}

var forms = []form{
	{name: "plain"},
	{name: "direct", since50: true, yaml: map[string]any{"commitlog_disk_access_mode": "direct"}},
	{name: "lz4", class: "LZ4Compressor", parameters: map[string][]string{
		"lz4_compressor_type": {"fast", "high"}, "lz4_high_compressor_level": {"1", "9", "17"}}},
	{name: "snappy", class: "SnappyCompressor"},
	{name: "deflate", class: "DeflateCompressor"},
	{name: "zstd", class: "ZstdCompressor", parameters: map[string][]string{"compression_level": {"-131072", "-5", "1", "3", "19", "22"}}},
	{name: "noop", class: "NoopCompressor"},
	{name: "encrypted", encrypted: true},
}

// compression draws what commitlog_compression says.
func (f *form) compression(g *generator) map[string]any {
	class := map[string]any{"class_name": pick(g, []string{f.class, "org.apache.cassandra.io.compress." + f.class})}
	parameters := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(f.parameters)) {
		if g.chance(0.8) {
			parameters[name] = pick(g, f.parameters[name])
		}
	}
	if len(parameters) > 0 {
		class["parameters"] = []any{parameters}
	}
	return map[string]any{"commitlog_compression": []any{class}}
}

// yamlSettings are those of a node of the variant; keys is nil if it encrypts nothing.
func (v Variant) yamlSettings(g *generator, keys *keys) map[string]any {
	y := map[string]any{}
	if v.version.cassandra == "4.0" {
		maps.Copy(y, map[string]any{
			"enable_materialized_views":       true,
			"batch_size_warn_threshold_in_kb": 10 << 10,
			"batch_size_fail_threshold_in_kb": 10 << 10,
		})
	} else {
		maps.Copy(y, map[string]any{
			"materialized_views_enabled": true,
			"batch_size_warn_threshold":  "10MiB",
			"batch_size_fail_threshold":  "10MiB",
		})
	}
	y["unlogged_batch_across_partitions_warn_threshold"] = 1000
	maps.Copy(y, v.version.yaml)
	maps.Copy(y, v.form.yaml)
	if v.form.class != "" {
		maps.Copy(y, v.form.compression(g))
	}
	if keys != nil {
		y["transparent_data_encryption_options"] = keys.yaml()
	}
	return y
}

// VersionNames are the names of all versions, FormNames those of all forms.
func VersionNames() []string { return names(versions) }

// FormNames: see [VersionNames].
func FormNames() []string { return names(forms) }

// Variants are those of the versions and forms named, as far as a version has the form; no names stand for all.
func Variants(versionNames, formNames []string) ([]Variant, error) {
	chosenVersions, err := choose("version", versions, versionNames)
	if err != nil {
		return nil, err
	}
	chosenForms, err := choose("variant", forms, formNames)
	if err != nil {
		return nil, err
	}
	var all []Variant
	for _, v := range chosenVersions {
		for _, f := range chosenForms {
			if !f.since50 || v.cassandra == "5.0" {
				all = append(all, Variant{v, f})
			}
		}
	}
	return all, nil
}

func (v version) String() string { return v.name }
func (f form) String() string    { return f.name }

func names[T fmt.Stringer](all []T) []string {
	var ns []string
	for _, x := range all {
		ns = append(ns, x.String())
	}
	return ns
}

func choose[T fmt.Stringer](what string, all []T, wanted []string) ([]T, error) {
	if len(wanted) == 0 {
		return all, nil
	}
	var chosen []T
	for _, name := range wanted {
		i := slices.Index(names(all), name)
		if i < 0 {
			return nil, fmt.Errorf("%s %q is unknown: expected some of %s", what, name, strings.Join(names(all), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
