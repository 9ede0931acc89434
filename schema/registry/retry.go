package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// retry does something until it succeeds, fails for a reason that will stay, or has been tried often enough.
func (c *Client) retry(ctx context.Context, do func() error) error {
	wait := firstPause
	for n := 1; ; n++ {
		err := do()
		if err == nil {
			return nil
		}
		var response *sr.ResponseError
		if errors.As(err, &response) {
			shorten(response)
		}
		if !passing(err) {
			return err
		}
		if n == attempts {
			return fmt.Errorf("given up after %d attempts: %w", n, err)
		}
		if c.pause(ctx, wait) != nil {
			return err
		}
		wait = min(2*wait, longPause)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// passing reports whether an error may go away by itself: the registry cannot be reached, or is in trouble.
func passing(err error) bool {
	var response *sr.ResponseError
	if errors.As(err, &response) {
		switch response.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		}
		return response.StatusCode >= 500
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return false
	}
	var transport *url.Error
	return errors.As(err, &transport)
}

// Refused reports whether an error of [Client.Register] says that the registry does not take this schema under this subject, and
// will not until someone changes something there.
func Refused(err error) bool {
	var response *sr.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	switch response.StatusCode {
	case http.StatusConflict, http.StatusForbidden, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// explain says what to do about an error. The subject is empty where a schema was fetched.
func explain(err error, subject string) error {
	var response *sr.ResponseError
	if errors.As(err, &response) {
		hint := ""
		switch response.StatusCode {
		case http.StatusConflict:
			hint = "; it is not compatible with the schemas registered before: columns that are not part of the key can be added and dropped, " +
				"but not change their type. If the readers of the topic can do with it, allow it: " +
				"PUT /config/" + subject + ` {"compatibility": "NONE"}`
		case http.StatusUnauthorized:
			hint = "; check the user name and the password for the registry"
		case http.StatusForbidden:
			hint = "; the user needs the right to read and to write this subject"
		case http.StatusNotFound:
			hint = "; check the path of the URL (Apicurio has this API at /apis/ccompat/v7)"
			if subject == "" {
				hint += ", and that it is the registry with which the record was written"
			}
		}
		return fmt.Errorf("status %d: %w%s", response.StatusCode, err, hint)
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return fmt.Errorf("%w; give the authority that signed the registry's certificate", err)
	}
	var transport *url.Error
	if errors.As(err, &transport) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("it does not answer: %w; check the URL, and that the registry is up", transport.Err)
	}
	return err
}

// maxMessage is how much of a registry's answer an error shows, in bytes. Some proxies answer with a page.
const maxMessage = 1000

// shorten cuts a response's message.
func shorten(response *sr.ResponseError) {
	if len(response.Message) > maxMessage {
		response.Message = strings.ToValidUTF8(response.Message[:maxMessage], "") + "..."
	}
	if len(response.Raw) > maxMessage {
		response.Raw = append(bytes.ToValidUTF8(response.Raw[:maxMessage:maxMessage], nil), "..."...)
	}
}
