package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"cassdelta/internal/testparts"
)

type objectStoreCmd struct {
	Dir     string   `help:"Folder for everything that the store writes; kept at the end. Default: a temporary one." placeholder:"DIR"`
	Command []string `arg:"" optional:"" passthrough:"" help:"A command to run beside it, with CASSDELTA_TEST_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set. Without one the store runs until Ctrl-C."`
}

// Run starts the store, and runs the command.
func (c *objectStoreCmd) Run(ctx context.Context) error {
	dir, cleanup, err := partDir(c.Dir, "objectstore")
	if err != nil {
		return err
	}
	defer cleanup()
	s, err := testparts.StartObjectStore(ctx, testparts.ObjectStoreOptions{Dir: dir})
	if err != nil {
		return err
	}
	defer s.Close()
	if len(c.Command) == 0 {
		fmt.Printf("S3 at %s, access key %s, secret key %s; log %s\nCtrl-C stops it.\n", s.URL, s.AccessKey, s.SecretKey, s.LogPath)
		<-ctx.Done()
		return nil
	}
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Env = append(os.Environ(), "CASSDELTA_TEST_S3="+s.URL, "AWS_ACCESS_KEY_ID="+s.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.SecretKey)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
