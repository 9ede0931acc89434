package testparts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const registryPort = 8081

// RegistryOptions describe a schema registry.
type RegistryOptions struct {
	// Dir holds everything that the registry writes; it is created. Its schemas are in memory only.
	Dir string
}

// Registry is a schema registry that forgets everything when it ends.
type Registry struct {
	// URL is the base of the Confluent API.
	URL     string
	Dir     string
	LogPath string

	argv        []string
	proc        *process
	net         *network
	releaseOnce sync.Once
}

// StartRegistry fetches what is needed, starts an empty registry and returns when it answers. Its compatibility level
// is BACKWARD, the default of Confluent's own. After an error nothing is left running.
func StartRegistry(ctx context.Context, opts RegistryOptions) (*Registry, error) {
	if opts.Dir == "" {
		return nil, errors.New("no folder is given for the registry")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	java, err := javaPath()
	if err != nil {
		return nil, err
	}
	partDir, err := Fetch(ctx, "registry")
	if err != nil {
		return nil, err
	}
	jars, err := filepath.Glob(filepath.Join(partDir, "*-runner.jar"))
	if err != nil || len(jars) != 1 {
		return nil, fmt.Errorf("%s: expected one *-runner.jar, found %d: remove the folder so that it is fetched again", partDir, len(jars))
	}
	nw, err := reserveNetwork(1, registryPort)
	if err != nil {
		return nil, err
	}
	r := &Registry{
		URL:     fmt.Sprintf("http://%s:%d/apis/ccompat/v7", nw.host(1), registryPort),
		Dir:     dir,
		LogPath: filepath.Join(dir, "logs", "registry.log"),
		net:     nw,
		argv: []string{java,
			"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
			"-Dquarkus.http.host=" + nw.host(1), "-Dquarkus.http.port=" + strconv.Itoa(registryPort),
			"-Djava.io.tmpdir=" + dir,
			"-jar", jars[0]},
	}
	if err := r.Start(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Start starts the registry again after [Registry.Kill] or [Registry.Stop], at the same address and empty.
func (r *Registry) Start(ctx context.Context) error {
	if r.proc.running() {
		return errors.New("start registry: it is running")
	}
	var err error
	r.proc, err = startProcess("registry", r.Dir, r.LogPath, r.argv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return r.proc.await(ctx, "ready", r.setCompatibility)
}

func (r *Registry) setCompatibility(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.URL+"/config", strings.NewReader(`{"compatibility":"BACKWARD"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT %s: %s: %s", req.URL, resp.Status, body)
	}
	return nil
}

// Stop ends the registry by SIGTERM.
func (r *Registry) Stop(ctx context.Context) error { return r.proc.stop(ctx) }

// Kill ends the registry by SIGKILL.
func (r *Registry) Kill() { r.proc.kill() }

// Close kills the registry, if it is running, and gives its address up.
func (r *Registry) Close() {
	r.Kill()
	r.releaseOnce.Do(r.net.release)
}
