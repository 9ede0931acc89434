package main

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestSettings holds for each flag of each verb that its environment variable and its key in the configuration file do
// the same as the flag, and that the flag does something.
func TestSettings(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	parser, err := newParser(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range parser.Model.Leaves(false) {
		flags := slices.Concat(verb.AllFlags(true)...)
		hasFile := slices.ContainsFunc(flags, func(f *kong.Flag) bool { return f.Name == "config" })
		for _, flag := range flags {
			if slices.Contains([]string{"help", "version", "config"}, flag.Name) {
				continue
			}
			t.Run(verb.FullPath()+" "+flag.Name, func(t *testing.T) {
				// What the verb needs beside the flag.
				args := strings.Fields(verb.Path())
				for _, p := range verb.Positional {
					args = append(args, p.Name)
				}
				for _, other := range flags {
					together := slices.ContainsFunc(other.And, func(group string) bool { return slices.Contains(flag.And, group) })
					if other != flag && (other.Required || together) {
						args = append(args, "--"+other.Name+"="+sample(t, other, ca))
					}
				}
				value := sample(t, flag, ca)
				want := valueOf(t, flag.Name, append(slices.Clone(args), "--"+flag.Name+"="+value))
				if flag.HasDefault && want == flag.Default || want == "" || want == "false" {
					t.Errorf("--%s=%s sets %s", flag.Name, value, want)
				}
				if hasFile {
					path := filepath.Join(t.TempDir(), "cassdelta.yaml")
					if err := os.WriteFile(path, fmt.Appendf(nil, "%s: %s\n", flag.Name, value), 0o644); err != nil {
						t.Fatal(err)
					}
					if found := valueOf(t, flag.Name, append(slices.Clone(args), "--config", path)); found != want {
						t.Errorf("the file sets %s, the flag %s", found, want)
					}
				}
				variable := "CASSDELTA_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
				t.Setenv(variable, value)
				if found := valueOf(t, flag.Name, args); found != want {
					t.Errorf("%s sets %s, the flag %s", variable, found, want)
				}
			})
		}
	}
}

// sample is a value of a flag that is not its default.
func sample(t *testing.T, flag *kong.Flag, ca string) string {
	t.Helper()
	if enum := flag.EnumSlice(); flag.Enum != "" {
		return enum[len(enum)-1]
	}
	if flag.Target.Type() == reflect.TypeFor[*caFile]() {
		return ca
	}
	switch flag.Target.Interface().(type) {
	case bool:
		return "true"
	case string:
		return "x"
	case []string:
		return "a,b"
	case int, int16, int32, *int32:
		return "7"
	}
	if value := map[string]string{"DURATION": "7s", "SIZE": "7MiB", "SEGMENT:OFFSET": "1:2", "TIME": "2026-02-01", "TABLES": "{shop.orders: {emit: changes}}"}[flag.PlaceHolder]; value != "" {
		return value
	}
	t.Fatalf("flag --%s has the type %v, of which this test has no value", flag.Name, flag.Target.Type())
	return ""
}

// valueOf parses a command line, and gives the value of a flag in it.
func valueOf(t *testing.T, name string, args []string) string {
	t.Helper()
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range ctx.Flags() {
		if flag.Name == name {
			if ca, ok := flag.Target.Interface().(*caFile); ok {
				return fmt.Sprint(ca != nil && ca.pool != nil)
			}
			if n, ok := flag.Target.Interface().(*int32); ok && n != nil {
				return fmt.Sprint(*n)
			}
			return fmt.Sprint(flag.Target.Interface())
		}
	}
	t.Fatalf("%v has no flag --%s", args, name)
	return ""
}

// TestHelp holds that --help of each verb tells of all that it takes, on standard output, and that there is a version.
func TestHelp(t *testing.T) {
	parser, err := newParser(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range parser.Model.Leaves(false) {
		code, stdout, stderr := program(t, append(strings.Fields(verb.Path()), "--help")...)
		if code != exitOK || stderr != "" {
			t.Errorf("%s: exit code %d, standard error %q", verb.FullPath(), code, stderr)
		}
		for _, flag := range slices.Concat(verb.AllFlags(true)...) {
			if flag.Help == "" || !strings.Contains(stdout, "--"+flag.Name) {
				t.Errorf("%s: --%s is not explained:\n%s", verb.FullPath(), flag.Name, stdout)
			}
		}
		if strings.Contains(stdout, "...,...") || strings.Contains(stdout, "${") {
			t.Errorf("%s:\n%s", verb.FullPath(), stdout)
		}
	}
	for _, args := range [][]string{nil, {"--help"}} {
		if code, stdout, stderr := program(t, args...); code != exitOK || stderr != "" || !strings.Contains(stdout, "demo") || !strings.Contains(stdout, "segment") {
			t.Errorf("%v: exit code %d, standard error %q, standard output\n%s", args, code, stderr, stdout)
		}
	}
	if code, stdout, stderr := program(t, "--version"); code != exitOK || stderr != "" || stdout != "cassdelta "+version()+"\n" {
		t.Errorf("--version: exit code %d, standard error %q, standard output %q", code, stderr, stdout)
	}
}
