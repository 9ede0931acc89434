package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// kafkaFlags say how to connect to Kafka. A verb that does has the field
//
//	Kafka kafkaFlags `embed:"" prefix:"kafka-"`
type kafkaFlags struct {
	Brokers []string `required:"" placeholder:"HOST:PORT" help:"Brokers to ask first; the others are learned from them."`

	TLS   bool    `name:"tls" help:"Encrypt the connections."`
	TLSCA *caFile `name:"tls-ca" placeholder:"FILE" help:"Certificates (PEM) of those who may sign the brokers' certificates, instead of the system's; includes --kafka-tls."`

	Mechanism string `name:"sasl-mechanism" default:"plain" enum:"plain,scram-sha-256,scram-sha-512" help:"How to prove the password: ${enum}."`
	Username  string `name:"sasl-username" and:"kafka-sasl" placeholder:"NAME" help:"User to log in as. Empty: none."`
	Password  string `name:"sasl-password" and:"kafka-sasl" placeholder:"SECRET" help:"Password of the user; better not given on the command line, which others on the machine can see."`
}

// Opts are those of every client.
func (f *kafkaFlags) Opts() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(f.Brokers...), kgo.ClientID("cassdelta")}
	if f.TLSCA != nil {
		opts = append(opts, kgo.DialTLSConfig(&tls.Config{RootCAs: f.TLSCA.pool, MinVersion: tls.VersionTLS12}))
	} else if f.TLS {
		opts = append(opts, kgo.DialTLS())
	}
	if f.Username == "" {
		return opts
	}
	switch f.Mechanism {
	case "scram-sha-256":
		return append(opts, kgo.SASL(scram.Auth{User: f.Username, Pass: f.Password}.AsSha256Mechanism()))
	case "scram-sha-512":
		return append(opts, kgo.SASL(scram.Auth{User: f.Username, Pass: f.Password}.AsSha512Mechanism()))
	}
	return append(opts, kgo.SASL(plain.Auth{User: f.Username, Pass: f.Password}.AsMechanism()))
}

// caFile is a file of certificates that was read while the command line was, so that its faults are faults of that.
type caFile struct{ pool *x509.CertPool }

// UnmarshalText reads the file of that name.
func (c *caFile) UnmarshalText(path []byte) error {
	pem, err := os.ReadFile(string(path))
	if err != nil {
		return err
	}
	c.pool = x509.NewCertPool()
	if !c.pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: expected certificates in PEM form, found none", path)
	}
	return nil
}
