package main

import (
	"context"

	"cassdelta/schema/registry"
)

// registryFlags say which schema registry to use. A verb that does has the field
//
//	Registry registryFlags `embed:"" prefix:"registry-"`
type registryFlags struct {
	URLs     []string `name:"url" placeholder:"URL" help:"Schema registry with the Confluent API, or several that are equal. None: schemas are in the topic PREFIX.schemas."`
	Username string   `and:"registry-login" placeholder:"NAME" help:"User to log in as. Empty: none."`
	Password string   `and:"registry-login" placeholder:"SECRET" help:"Password of the user; better not given on the command line, which others on the machine can see."`
}

// client makes a client of a registry that answers; nil if no registry is given.
func (f *registryFlags) client(ctx context.Context) (*registry.Client, error) {
	if len(f.URLs) == 0 {
		return nil, nil
	}
	client, err := registry.New(registry.Config{URLs: f.URLs, Username: f.Username, Password: f.Password})
	if err != nil {
		return nil, err
	}
	return client, client.Check(ctx)
}
