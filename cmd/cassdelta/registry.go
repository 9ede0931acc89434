package main

import "cassdelta/schema/registry"

// registryFlags say which schema registry to use. A verb that does has the field
//
//	Registry registryFlags `embed:"" prefix:"registry-"`
type registryFlags struct {
	URLs     []string `name:"url" placeholder:"URL" help:"Schema registry with the Confluent API, or several that are equal. None: schemas are in the topic PREFIX.schemas."`
	Username string   `and:"registry-login" placeholder:"NAME" help:"User to log in as. Empty: none."`
	Password string   `and:"registry-login" placeholder:"SECRET" help:"Password of the user; better not given on the command line, which others on the machine can see."`
}

// client makes a client; nil if no registry is given.
func (f *registryFlags) client() (*registry.Client, error) {
	if len(f.URLs) == 0 {
		return nil, nil
	}
	return registry.New(registry.Config{URLs: f.URLs, Username: f.Username, Password: f.Password})
}
