package inspect

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOnlyFromHere asks in a way that is refused to all, so that who is refused as a stranger is told so first.
func TestOnlyFromHere(t *testing.T) {
	for address, here := range map[string]bool{
		"127.0.0.1:1": true, "127.3.2.1:70": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"10.0.0.1:1": false, "192.168.1.1:1": false, "[fe80::1%eth0]:1": false, "[::ffff:10.0.0.1]:1": false, "": false, "@": false,
	} {
		for _, everyone := range []bool{false, true} {
			request := httptest.NewRequest(http.MethodPost, Path, nil)
			request.RemoteAddr = address
			answer := httptest.NewRecorder()
			Handler(nil, everyone).ServeHTTP(answer, request)
			want := http.StatusMethodNotAllowed
			if !here && !everyone {
				want = http.StatusForbidden
			}
			if answer.Code != want {
				t.Errorf("from %q, for everyone %v: expected status %d, found %d", address, everyone, want, answer.Code)
			}
		}
	}
}
