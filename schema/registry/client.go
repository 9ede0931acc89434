// Package registry registers Avro schemas with a schema registry that has the Confluent API, and fetches them.
//
// Subjects are those of Confluent's TopicNameStrategy, see [KeySubject] and [ValueSubject]. Kafka keys and values are in
// Confluent's wire format: a byte 0, the schema's id (4 bytes, big-endian), the datum.
package registry

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// Config says where a registry is.
type Config struct {
	// URLs are the bases of the API, of equal registries; the first that answers is used. At least one is needed. A user
	// and a password in one of them are taken in place of the following two.
	URLs []string
	// Username and Password are for HTTP basic authentication. An empty user name is none.
	Username, Password string
	// TLS is for https. Nil trusts the system's authorities.
	TLS *tls.Config
	// Timeout is that of one request. 0 is 5 seconds.
	Timeout time.Duration
}

const defaultTimeout = 5 * time.Second

// Attempts and pauses when a registry cannot be reached or is in trouble: with the longest pause this gives a registry
// some ten seconds to come back.
const (
	attempts   = 8
	firstPause = 100 * time.Millisecond
	longPause  = 4 * time.Second
)

// Client talks to a registry. It is safe for concurrent use. It remembers what was registered and fetched: of one
// schema there is one request.
type Client struct {
	client *sr.Client
	// name is the URLs, without passwords, for errors.
	name string
	// pause waits before another attempt, unless ctx ends.
	pause func(ctx context.Context, d time.Duration) error

	mu         sync.Mutex
	registered map[registration]int32
	schemas    map[int32]string
}

// registration is by the text of a schema and not its fingerprint, which leaves out the attributes.
type registration struct{ subject, schema string }

// New makes a client. It sends nothing.
func New(cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("schema registry: no URL is given")
	}
	username, password := cfg.Username, cfg.Password
	urls := make([]string, len(cfg.URLs))
	for i, text := range cfg.URLs {
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			// The error of url.Parse shows the text, in which there may be a password.
			return nil, fmt.Errorf("schema registry: URL %d of %d is malformed, expected http[s]://host[:port][/path]", i+1, len(urls))
		}
		if u.User != nil {
			username = u.User.Username()
			password, _ = u.User.Password()
			u.User = nil
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("schema registry: URL %s: expected http[s]://host[:port][/path]", u)
		}
		urls[i] = u.String()
	}
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	opts := []sr.ClientOpt{sr.HTTPClient(&http.Client{Timeout: timeout}), sr.URLs(urls...), sr.UserAgent("cassdelta")}
	if cfg.TLS != nil {
		opts = append(opts, sr.DialTLSConfig(cfg.TLS))
	}
	if username != "" {
		opts = append(opts, sr.BasicAuth(username, password))
	}
	client, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("schema registry %s: %w", strings.Join(urls, ", "), err)
	}
	return &Client{
		client: client, name: strings.Join(urls, ", "), pause: pause,
		registered: map[registration]int32{}, schemas: map[int32]string{},
	}, nil
}

// Check asks the registry for something, so that one that is not there, or is none, is noticed before it is needed. It is
// asked again for some seconds, as by [Client.Register].
func (c *Client) Check(ctx context.Context) error {
	err := c.retry(ctx, func() error {
		err := c.client.Compatibility(ctx)[0].Err
		var response *sr.ResponseError
		if errors.As(err, &response) && response.StatusCode == http.StatusForbidden {
			return nil // it is there; which rights are needed is seen when it is used
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("schema registry %s: %w", c.name, explain(err, ""))
	}
	return nil
}

// KeySubject is the subject of the schemas of a topic's keys.
func KeySubject(topic string) string { return topic + "-key" }

// ValueSubject is the subject of the schemas of a topic's values.
func ValueSubject(topic string) string { return topic + "-value" }

// Register registers an Avro schema under a subject, if it is not there yet, and gives its id. A registry that cannot be
// reached or is in trouble is asked again for some seconds.
func (c *Client) Register(ctx context.Context, subject, schema string) (int32, error) {
	key := registration{subject, schema}
	c.mu.Lock()
	id, ok := c.registered[key]
	c.mu.Unlock()
	if ok {
		return id, nil
	}
	err := c.retry(ctx, func() error {
		n, err := c.client.RegisterSchema(ctx, subject, sr.Schema{Schema: schema}, -1, -1)
		if err == nil {
			id, err = checkID(n)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("schema registry %s: register subject %s: %w", c.name, subject, explain(err, subject))
	}
	c.mu.Lock()
	c.registered[key] = id
	c.mu.Unlock()
	return id, nil
}

// Schema fetches the text of the Avro schema with an id.
func (c *Client) Schema(ctx context.Context, id int32) (string, error) {
	c.mu.Lock()
	text, ok := c.schemas[id]
	c.mu.Unlock()
	if ok {
		return text, nil
	}
	err := c.retry(ctx, func() error {
		s, err := c.client.SchemaByID(ctx, int(id))
		if err == nil && (s.Type != sr.TypeAvro || len(s.References) > 0) {
			err = fmt.Errorf("expected an Avro schema without references, found type %v with %d references", s.Type, len(s.References))
		}
		text = s.Schema
		return err
	})
	if err != nil {
		return "", fmt.Errorf("schema registry %s: schema %d: %w", c.name, id, explain(err, ""))
	}
	c.mu.Lock()
	c.schemas[id] = text
	c.mu.Unlock()
	return text, nil
}

// checkID refuses what no registry gives, so that an answer which is none of a registry's is not taken for one.
func checkID(n int) (int32, error) {
	if n <= 0 || n > math.MaxInt32 {
		return 0, fmt.Errorf("expected an id from 1 to %d, found %d; is this a schema registry?", math.MaxInt32, n)
	}
	return int32(n), nil
}

// AppendConfluentHeader appends what stands before a datum in Confluent's wire format.
func AppendConfluentHeader(dst []byte, id int32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0), uint32(id))
}

// CutConfluentHeader splits a key or a value in Confluent's wire format.
func CutConfluentHeader(b []byte) (id int32, datum []byte, err error) {
	if len(b) < 5 || b[0] != 0 {
		return 0, nil, fmt.Errorf("expected Confluent's wire format, a byte 0 and 4 bytes of a schema id, found %d bytes that begin with %x",
			len(b), b[:min(len(b), 5)])
	}
	return int32(binary.BigEndian.Uint32(b[1:])), b[5:], nil
}
