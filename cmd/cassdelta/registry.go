package main

// registryFlags say which schema registry to use. A verb that does has the field
//
//	Registry registryFlags `embed:"" prefix:"registry-"`
type registryFlags struct {
	URL      string `name:"url" placeholder:"URL" help:"Base of a schema registry with the Confluent API. Empty: schemas are kept in the topic PREFIX.schemas."`
	Username string `and:"registry-login" placeholder:"NAME" help:"User to log in as. Empty: none."`
	Password string `and:"registry-login" placeholder:"SECRET" help:"Password of the user; better given by the environment or the configuration file, since command lines are public."`
}
