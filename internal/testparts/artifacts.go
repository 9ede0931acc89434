package testparts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// artifactsJSON is the only place where versions of parts are written down.
//
//go:embed artifacts.json
var artifactsJSON []byte

// artifact says how a part is fetched: either the jars of some Maven coordinates with all that they depend on, or an
// archive (tar.gz) that is unpacked.
type artifact struct {
	// Dependencies are group:artifact:version.
	Dependencies []string `json:"dependencies,omitempty"`
	// Archive is group:artifact:version:type:classifier.
	Archive string `json:"archive,omitempty"`
	// OnDemand is set for what no test needs: it is fetched by name only.
	OnDemand bool `json:"onDemand,omitempty"`
}

type artifactList struct {
	// Plugin is the Maven plugin that copies the files.
	Plugin string              `json:"plugin"`
	Parts  map[string]artifact `json:"parts"`
}

func loadArtifacts() (artifactList, error) {
	var list artifactList
	dec := json.NewDecoder(bytes.NewReader(artifactsJSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return artifactList{}, fmt.Errorf("artifacts.json: %w", err)
	}
	return list, nil
}

// PartNames lists the parts that tests need, in order. [Fetch] knows more.
func PartNames() ([]string, error) {
	list, err := loadArtifacts()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list.Parts))
	for name, part := range list.Parts {
		if !part.OnDemand {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// CacheDir is the folder that holds the fetched parts: $CASSDELTA_PARTS_CACHE, or cassdelta/parts in the user's cache
// folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("CASSDELTA_PARTS_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for test parts, set CASSDELTA_PARTS_CACHE: %w", err)
	}
	return filepath.Join(dir, "cassdelta", "parts"), nil
}

// Fetch makes sure that a part is in the cache and returns its folder. The first call on a machine downloads it by
// Maven; later calls, also of other processes, find it. A folder is either absent or whole: it gets its name, which
// holds a hash of the artifact's description, when all is in it.
func Fetch(ctx context.Context, name string) (string, error) {
	list, err := loadArtifacts()
	if err != nil {
		return "", err
	}
	part, ok := list.Parts[name]
	if !ok {
		names, _ := PartNames()
		return "", fmt.Errorf("test part %q is unknown: expected one of %s", name, strings.Join(names, ", "))
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name+"-"+part.key())
	if isDir(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, name+".lock"))
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	defer unlock()
	if isDir(dir) {
		return dir, nil
	}
	temp, err := os.MkdirTemp(cache, name+".partial-")
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	defer os.RemoveAll(temp)
	if err := download(ctx, list.Plugin, part, temp); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	if err := os.Rename(filepath.Join(temp, "part"), dir); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	return dir, nil
}

// key tells versions of one part apart in the cache.
func (a artifact) key() string {
	sum := sha256.Sum256([]byte(strings.Join(a.Dependencies, " ") + "\n" + a.Archive))
	return hex.EncodeToString(sum[:6])
}

var pomTemplate = template.Must(template.New("pom").Parse(`<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>cassdelta</groupId>
  <artifactId>testparts</artifactId>
  <version>1</version>
  <dependencies>
{{- range . }}
    <dependency><groupId>{{ .Group }}</groupId><artifactId>{{ .Artifact }}</artifactId><version>{{ .Version }}</version></dependency>
{{- end }}
  </dependencies>
</project>
`))

// download leaves the part in temp/part.
func download(ctx context.Context, plugin string, part artifact, temp string) error {
	out := filepath.Join(temp, "part")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	if part.Archive != "" {
		archives := filepath.Join(temp, "archive")
		err := maven(ctx, temp, plugin+":copy", "-Dartifact="+part.Archive, "-DoutputDirectory="+archives)
		if err != nil {
			return err
		}
		found, err := filepath.Glob(filepath.Join(archives, "*.tar.gz"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%s: expected one .tar.gz from Maven, found %d", part.Archive, len(found))
		}
		return untar(found[0], out)
	}
	type coordinates struct{ Group, Artifact, Version string }
	var deps []coordinates
	for _, d := range part.Dependencies {
		f := strings.Split(d, ":")
		if len(f) != 3 {
			return fmt.Errorf("artifacts.json: dependency %q: expected group:artifact:version", d)
		}
		deps = append(deps, coordinates{f[0], f[1], f[2]})
	}
	var pom bytes.Buffer
	if err := pomTemplate.Execute(&pom, deps); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, "pom.xml"), pom.Bytes(), 0o644); err != nil {
		return err
	}
	return maven(ctx, temp, plugin+":copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+out)
}

func maven(ctx context.Context, dir string, args ...string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return errors.New("mvn is not installed: test parts come from Maven Central; install Maven (Debian: apt-get install maven)")
	}
	cmd := exec.CommandContext(ctx, mvn, append([]string{"--batch-mode", "--quiet"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, lastLines(out, 15))
	}
	return nil
}

// untar unpacks regular files and folders; nothing else occurs in the archives we use.
func untar(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%s: entry %q leaves the folder", archive, h.Name)
		}
		path := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			err = writeEntry(path, tr, h.FileInfo().Mode().Perm()|0o600)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
	}
}

func writeEntry(path string, r io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// lockFile waits for the exclusive lock of a file, which the system releases should the holder die.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, 100*time.Millisecond, func() error {
		return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s, held by another process: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// javaPath finds the Java runtime: $JAVA_HOME or the search path.
func javaPath() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return filepath.Join(home, "bin", "java"), nil
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", errors.New("java is not installed: test parts run on Java 17 (Debian: apt-get install openjdk-17-jre-headless)")
	}
	return java, nil
}

// classpath is every jar of a part, in a fixed order.
func classpath(partDir string) (string, error) {
	jars, err := filepath.Glob(filepath.Join(partDir, "*.jar"))
	if err != nil {
		return "", err
	}
	if len(jars) == 0 {
		return "", fmt.Errorf("%s holds no jars: remove the folder so that it is fetched again", partDir)
	}
	return strings.Join(jars, string(os.PathListSeparator)), nil
}
