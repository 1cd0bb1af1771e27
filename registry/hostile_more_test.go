package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// TestOddManifests has what looks hostile and is legal: many layers, the same one twice, large annotations, text that is no UTF-8, layers
// that name URLs of their own, which nobody asks.
func TestOddManifests(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a layer's own URL was asked") }))
	t.Cleanup(elsewhere.Close)
	l := fmt.Sprintf(`{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":%q,"size":%d,"urls":[%q]}`, brig.DigestOf([]byte(layer)), len(layer), elsewhere.URL)
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`
	c := fmt.Sprintf(`{"mediaType":"","digest":%q,"size":%d}`, brig.DigestOf([]byte(config)), len(config))
	for name, m := range map[string]struct {
		body   string
		layers int
	}{
		"10,000 layers":     {`"layers":[` + strings.Repeat(l+",", 9_999) + l + `]`, 10_000},
		"large annotations": {`"layers":[` + l + `],"annotations":{"a":"` + strings.Repeat("x", 3<<20) + `","A":""}`, 1},
		"no UTF-8":          {`"layers":[` + l + `],"annotations":{"a":"` + "\xff\xfe" + `"}`, 1},
		"unknown fields":    {`"layers":[` + l + `],"x":{"layers":[],"manifests":[]}`, 1},
	} {
		host := faulty(t, func(w http.ResponseWriter, req *http.Request) bool {
			return say(isTopLevel, 200, `{"schemaVersion":2,"config":`+c+","+m.body+"}")(w, req) ||
				say(func(r *http.Request) bool { return isBlob(r) && !isLayer(r) }, 200, config)(w, req)
		})
		r := newRegistry(t, Config{})
		remote, err := r.Resolve(t.Context(), host+"/app:1", "", brig.Auth{})
		if err != nil || len(remote.Layers) != m.layers {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := readLayer(t, r, remote, m.layers-1, 0); err != nil || got != layer {
			t.Errorf("%s: layer %q, %v", name, got, err)
		}
	}
}

// TestHostileTokenServers has a registry's token server lie, stall and lead elsewhere.
func TestHostileTokenServers(t *testing.T) {
	all := func(*http.Request) bool { return true }
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("another host got the password")
		}
	}))
	t.Cleanup(thief.Close)
	for _, code := range []string{"DENIED", "NAME_UNKNOWN", "MANIFEST_UNKNOWN"} { // already for the first request, before there is a session
		refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			say(all, 403, `{"errors":[{"code":"`+code+`","message":"no"}]}`)(w, r)
		}))
		t.Cleanup(refuse.Close)
		host := faulty(t, say(all, 401, "", "WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", refuse.URL)))
		if _, err := newRegistry(t, Config{}).Resolve(t.Context(), host+"/app:1", "", brig.Auth{}); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), ": no") {
			t.Errorf("%s: %v (%v)", code, err, errs.KindOf(err))
		}
		if _, err := newRegistry(t, Config{}).Describe(t.Context(), host+"/app:1", brig.Auth{}); !errs.Is(err, errs.Forbidden) || !strings.Contains(err.Error(), ": no") {
			t.Errorf("describe, %s: %v (%v)", code, err, errs.KindOf(err))
		}
	}
	for _, c := range []struct {
		name, realm string // "": the server below
		fault       fault
		kind        errs.Kind
		want        string
	}{
		{"endless", "", endless(all), errs.Invalid, "larger than 1048576 bytes"},
		{"no JSON", "", say(all, 200, "<html>"), errs.Invalid, "answer of the token server"},
		{"no token", "", say(all, 200, `{"token":""}`), errs.Invalid, "did not include a token"},
		{"a token of two lines", "", say(all, 200, `{"token":"a\r\nX-Evil: 1"}`), errs.Invalid, "did not include a token"},
		{"refused", "", say(all, 403, `{"errors":[{"code":"DENIED","message":"no"}]}`), errs.NotFound, "denied: no"},
		{"sent elsewhere", "", say(all, 307, "", "Location", thief.URL), errs.Invalid, "answer of the token server"},
		{"a file", "file:///etc/passwd", nil, errs.Invalid, "impossible token server"},
		{"nowhere", "http://", nil, errs.Invalid, "impossible token server"},
		{"no realm", "none", nil, errs.Invalid, "impossible token server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			realm := c.realm
			if realm == "" {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.fault(w, r) }))
				t.Cleanup(s.Close)
				realm = s.URL
			}
			host := faulty(t, say(isTopLevel, 401, "", "WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", realm)))
			_, err := newRegistry(t, Config{}).Resolve(t.Context(), host+"/app:1", "", brig.Auth{Username: "sailor", Password: "ahoy"})
			if err == nil || errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (%v), want %s (%v)", err, errs.KindOf(err), c.want, c.kind)
			}
		})
	}
}
