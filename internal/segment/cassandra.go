package segment

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"cassdelta/schema/cqlsource"
)

// CassandraFlags say how to ask a running node for the tables.
type CassandraFlags struct {
	ContactPoints []string `placeholder:"HOST[:PORT]" help:"Nodes that are asked for the tables, if there is no --schema."`

	TLS   bool   `name:"tls" help:"Encrypt the connection."`
	TLSCA string `name:"tls-ca" placeholder:"FILE" help:"Certificates (PEM) of those who may sign the nodes' certificates, instead of the system's; includes --cassandra-tls."`

	Username string `and:"segment-login" placeholder:"NAME" help:"User to log in as. Empty: none."`
	Password string `and:"segment-login" placeholder:"SECRET" help:"Password of the user; better not given on the command line, which others on the machine can see."`
}

// config is how to connect; without contact points it is not to be used.
func (f *CassandraFlags) config() (cqlsource.Config, error) {
	c := cqlsource.Config{ContactPoints: f.ContactPoints, Username: f.Username, Password: f.Password}
	if f.TLS || f.TLSCA != "" {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if f.TLSCA != "" {
		pem, err := os.ReadFile(f.TLSCA)
		if err != nil {
			return c, err
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("%s: expected certificates in PEM form, found none", f.TLSCA)
		}
	}
	return c, nil
}
