package main

import (
	"crypto/tls"

	"go.uber.org/zap"

	"cassdelta/schema/cqlsource"
)

// cassandraFlags say how to ask Cassandra for its schema. A verb that does has the field
//
//	Cassandra cassandraFlags `embed:"" prefix:"cassandra-"`
type cassandraFlags struct {
	ContactPoints []string `default:"127.0.0.1" placeholder:"HOST[:PORT]" help:"Nodes that are asked for the schema: the one on this machine first, then others for the time when it is down. Default: ${default}."`

	TLS   bool    `name:"tls" help:"Encrypt the connection."`
	TLSCA *caFile `name:"tls-ca" placeholder:"FILE" help:"Certificates (PEM) of those who may sign the nodes' certificates, instead of the system's; includes --cassandra-tls."`

	Username string `and:"cassandra-login" placeholder:"NAME" help:"User to log in as. Empty: none."`
	Password string `and:"cassandra-login" placeholder:"SECRET" help:"Password of the user; better not given on the command line, which others on the machine can see."`
}

// source connects when it is asked for something.
func (f *cassandraFlags) source(log *zap.Logger) (*cqlsource.Source, error) {
	c := cqlsource.Config{ContactPoints: f.ContactPoints, Username: f.Username, Password: f.Password}
	if f.TLSCA != nil {
		c.TLS = &tls.Config{RootCAs: f.TLSCA.pool, MinVersion: tls.VersionTLS12}
	} else if f.TLS {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return cqlsource.New(c, log)
}
