package main

import (
	"fmt"
	"time"

	"cassdelta/dedup"
	"cassdelta/state/objects"
)

// storeFlags say where checkpoints are. A verb that needs them embeds them with the prefix checkpoint-.
type storeFlags struct {
	Store string  `placeholder:"PLACE" help:"Where copies of the state are kept, so that it outlives the disk of a worker: s3://BUCKET/PREFIX, or a directory that all workers share. Empty: there are none."`
	S3    s3Flags `embed:"" prefix:"s3-"`
}

type s3Flags struct {
	Endpoint  string `env:"CASSDELTA_CHECKPOINT_S3_ENDPOINT" placeholder:"URL" help:"Address of the S3-compatible store, as http://127.0.0.1:9000. Empty: AWS."`
	Region    string `env:"CASSDELTA_CHECKPOINT_S3_REGION" placeholder:"NAME" help:"Region of the bucket. Empty: the store is asked."`
	AccessKey string `env:"CASSDELTA_CHECKPOINT_S3_ACCESS_KEY" placeholder:"KEY" help:"Access key. Empty: keys are looked for as AWS's tools do: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, the role of the machine."`
	SecretKey string `env:"CASSDELTA_CHECKPOINT_S3_SECRET_KEY" placeholder:"SECRET" help:"Secret key; better not given on the command line, which others on the machine can see."`
}

// open opens the store; nil if none is given. Existing says that a directory is to be there.
func (f *storeFlags) open(existing bool) (objects.Store, error) {
	if f.Store == "" {
		return nil, nil
	}
	s, err := objects.Open(objects.Config{URL: f.Store, S3: objects.S3Config(f.S3), Existing: existing})
	if err != nil {
		return nil, fmt.Errorf("checkpoint-store: %w", err)
	}
	return s, nil
}

// checkpointFlags are those of a worker.
type checkpointFlags struct {
	storeFlags `embed:""`
	Interval   time.Duration `default:"1m" placeholder:"DURATION" help:"Time between two checkpoints of a raw partition, hence about how much is folded again when a disk is lost. Default: ${default}."`
	Retain     int           `default:"3" placeholder:"COUNT" help:"How many checkpoints of a raw partition are kept in any case. Default: ${default}."`
}

func (f *checkpointFlags) config() (dedup.CheckpointConfig, error) {
	store, err := f.open(false)
	return dedup.CheckpointConfig{Store: store, Interval: f.Interval, Retain: f.Retain}, err
}
