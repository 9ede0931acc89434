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
	compressed("lz4", "LZ4Compressor"),
	compressed("snappy", "SnappyCompressor"),
	compressed("deflate", "DeflateCompressor"),
	compressed("zstd", "ZstdCompressor"),
	compressed("noop", "NoopCompressor"),
	{name: "encrypted", encrypted: true},
}

func compressed(name, class string) form {
	return form{name: name, yaml: map[string]any{"commitlog_compression": []any{map[string]any{"class_name": class}}}}
}

// yamlSettings are those of a node of the variant; keys is nil if it encrypts nothing.
func (v Variant) yamlSettings(keys *keys) map[string]any {
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
