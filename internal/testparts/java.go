package testparts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// JavaProgram is a Java program that runs on the jars of a part.
type JavaProgram struct {
	java, classpath string
}

// CompileJava compiles the Java sources in the root of sources against the jars of a part; other files there are put on
// the class path. The result is kept in the cache, by the contents of all of these, and found there by later calls.
func CompileJava(ctx context.Context, part string, sources fs.FS) (*JavaProgram, error) {
	p, err := compileJava(ctx, part, sources)
	if err != nil {
		return nil, fmt.Errorf("compile Java for %s: %w", part, err)
	}
	return p, nil
}

func compileJava(ctx context.Context, part string, sources fs.FS) (*JavaProgram, error) {
	java, err := javaPath()
	if err != nil {
		return nil, err
	}
	partDir, err := Fetch(ctx, part)
	if err != nil {
		return nil, err
	}
	jars, err := classpath(partDir)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	names, err := fs.Glob(sources, "*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := fs.ReadFile(sources, name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(content), content)
	}
	dir := fmt.Sprintf("%s-java-%s", partDir, hex.EncodeToString(hash.Sum(nil)[:6]))
	p := &JavaProgram{java: java, classpath: dir + string(os.PathListSeparator) + jars}
	if isDir(dir) {
		return p, nil
	}
	unlock, err := lockFile(ctx, partDir+"-java.lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if isDir(dir) {
		return p, nil
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "java.partial-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(temp, sources); err != nil {
		return nil, err
	}
	if err := javac(ctx, java, jars, temp, names); err != nil {
		return nil, err
	}
	return p, os.Rename(temp, dir)
}

// javac compiles those of the files in dir that are Java sources; the classes stand beside them.
func javac(ctx context.Context, java, jars, dir string, names []string) error {
	compiler, err := beside(java, "javac")
	if err != nil {
		return err
	}
	args := []string{"-nowarn", "-proc:none", "-d", ".", "-cp", jars}
	for _, name := range names {
		if strings.HasSuffix(name, ".java") {
			args = append(args, name)
		}
	}
	cmd := exec.CommandContext(ctx, compiler, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", compiler, err, lastLines(out, 30))
	}
	return nil
}

// Command is the command that runs a class of the program, with properties (-Dname=value) given as name=value, with the
// memory and the access to the runtime that Cassandra's tools need. It dies with the process that starts it.
func (p *JavaProgram) Command(ctx context.Context, class string, properties []string, args ...string) *exec.Cmd {
	argv := append(slices.Clone(openModules), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
	for _, property := range properties {
		argv = append(argv, "-D"+property)
	}
	argv = append(argv, "-cp", p.classpath, class)
	cmd := exec.CommandContext(ctx, p.java, append(argv, args...)...)
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// Java is the path of the runtime and the class path of the program, for who starts it his own way.
func (p *JavaProgram) Java() (java, classpath string) { return p.java, p.classpath }

// Keytool runs the JDK's keytool.
func Keytool(ctx context.Context, args ...string) error {
	java, err := javaPath()
	if err != nil {
		return err
	}
	tool, err := beside(java, "keytool")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, tool, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", tool, err, lastLines(out, 15))
	}
	return nil
}

// beside finds a tool of the JDK: in the folder of its runtime, or on the search path.
func beside(java, tool string) (string, error) {
	if path := filepath.Join(filepath.Dir(java), tool); isFile(path) {
		return path, nil
	}
	path, err := exec.LookPath(tool)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: install a JDK 17 (Debian: apt-get install openjdk-17-jdk-headless)", tool)
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
