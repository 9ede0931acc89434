package sink

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"cassdelta/dedup"
	"cassdelta/schema/registry"
)

// TestErrorsOfATable tells what stays until someone changes something from what passes by itself.
func TestErrorsOfATable(t *testing.T) {
	refusing := func(status int) func(t *testing.T) *registry.Client {
		return func(t *testing.T) *registry.Client {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, `{"error_code":`+http.StatusText(status)+`}`, status)
			}))
			t.Cleanup(server.Close)
			client, err := registry.New(registry.Config{URLs: []string{server.URL}})
			if err != nil {
				t.Fatal(err)
			}
			return client
		}
	}
	create := []kmsg.Key{kmsg.CreateTopics}
	for _, c := range []struct {
		name     string
		fault    *kfake.Fault
		registry func(t *testing.T) *registry.Client
		lasts    bool
		says     string
	}{
		{"no right to make the topic", &kfake.Fault{Keys: create, Err: kerr.TopicAuthorizationFailed}, nil, true, "create it by hand, or allow this user to"},
		{"a policy forbids the topic", &kfake.Fault{Keys: create, Err: kerr.PolicyViolation}, nil, true, "POLICY_VIOLATION"},
		{"brokers in trouble", &kfake.Fault{Keys: create, Err: kerr.UnknownServerError}, nil, false, "UNKNOWN_SERVER_ERROR"},
		{"an incompatible schema", nil, refusing(http.StatusConflict), true, "it is not compatible with the schemas registered before"},
		{"no right to the subject", nil, refusing(http.StatusForbidden), true, "the user needs the right to read and to write this subject"},
		{"no right to the registry", nil, refusing(http.StatusUnauthorized), false, "check the user name and the password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := timeout(t)
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			var reg *registry.Client
			if c.registry != nil {
				reg = c.registry(t)
			}
			s := newSink(t, broker{client: client, admin: kadm.NewClient(client)}, reg)
			if c.fault != nil {
				c.fault.Count = -1
				cluster.Fault(*c.fault)
			}
			var rec kgo.Record
			_, err = s.Encode(ctx, randomEvent(t, rand.New(rand.NewPCG(1, 1)), testTable(t, customersCQL)), &rec, nil)
			var table *dedup.TableError
			if err == nil || errors.As(err, &table) != c.lasts || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, expected one with %q; that it lasts: %t", err, c.says, c.lasts)
			}
			if c.lasts && table.Table != "shop.customers" {
				t.Errorf("the table is %s", table.Table)
			}
		})
	}
}
