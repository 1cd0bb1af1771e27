package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func blobOf(s string) (brig.Descriptor, func() (io.ReadCloser, error)) {
	return brig.Descriptor{Digest: brig.DigestOf([]byte(s)), Size: int64(len(s))}, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// put pushes a blob as the runtime does.
func put(t *testing.T, r *Registry, repo, from, content string) (mounted bool, err error) {
	t.Helper()
	d, open := blobOf(content)
	return r.PutBlob(t.Context(), repo, from, d, open, brig.Auth{})
}

// TestPushToRealRegistries pushes an image by hand, describes it and pulls it again.
func TestPushToRealRegistries(t *testing.T) {
	for name, host := range map[string]string{"in-process": serve(t, nil), "debian": debian(t, false)} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t, Config{})
			repo := host + "/crew/pushed"
			config := `{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{"type":"layers","diff_ids":[]}}`
			d, _ := blobOf(layer)
			if has, err := r.HasBlob(t.Context(), repo, d.Digest, brig.Auth{}); err != nil || has {
				t.Fatalf("has a blob that nobody sent: %v, %v", has, err)
			}
			for _, content := range []string{layer, config, ""} {
				if mounted, err := put(t, r, repo, "", content); err != nil || mounted {
					t.Fatalf("%v, %v", mounted, err)
				}
			}
			if has, err := r.HasBlob(t.Context(), repo, d.Digest, brig.Auth{}); err != nil || !has {
				t.Fatalf("does not have what was sent: %v, %v", has, err)
			}
			c, _ := blobOf(config)
			m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
				typeOCIManifest, c.Digest, c.Size, d.Digest, d.Size)
			if err := r.PutManifest(t.Context(), repo+":1", typeOCIManifest, []byte(m), brig.Auth{}); err != nil {
				t.Fatal(err)
			}
			got, err := r.Describe(t.Context(), repo+":1", brig.Auth{})
			want := brig.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
			if err != nil || got.Descriptor.Digest != brig.DigestOf([]byte(m)) || got.Descriptor.MediaType != typeOCIManifest || !slices.Equal(got.Platforms, []brig.Platform{want}) {
				t.Errorf("described as %+v, %v", got, err)
			}
			remote, err := r.Resolve(t.Context(), repo+":1", "linux/arm64", brig.Auth{})
			if err != nil || string(remote.Manifest) != m || string(remote.Config) != config {
				t.Errorf("pulled %+v, %v", remote, err)
			}
			if mounted, err := put(t, r, host+"/other", repo, layer); err != nil || name == "debian" && !mounted {
				t.Errorf("mounted %v, %v", mounted, err)
			}
			if _, err := put(t, r, host+"/third", host+"/nosuch", layer); err != nil {
				t.Errorf("a source that is not there: %v", err)
			}
			bad := strings.Replace(m, string(d.Digest), string(brig.DigestOf([]byte("never sent"))), 1)
			if err := r.PutManifest(t.Context(), repo+":bad", typeOCIManifest, []byte(bad), brig.Auth{}); name == "debian" && (!errs.Is(err, errs.Invalid) && !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "manifest blob unknown: ")) {
				t.Errorf("a manifest of blobs that are not there: %v", err)
			}
		})
	}
}

// An uploads is a registry that takes one upload and can be told to misbehave.
type uploads struct {
	t         *testing.T
	elsewhere string // where the upload goes, absolute; "": here, by a relative Location
	fault     fault

	mu    sync.Mutex
	data  string
	calls []string
	blobs map[string]string
}

func (u *uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls = append(u.calls, r.Method)
	if u.fault != nil && u.fault(w, r) {
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch {
	case r.URL.Path == "/v2/":
	case r.Method == http.MethodPost:
		u.data = ""
		w.Header().Set("Location", u.elsewhere+"/upload?state=a%2Fb")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPatch && r.URL.Query().Get("state") == "a/b":
		u.data += string(b)
		w.Header().Set("Location", "?state=next&keep=1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && r.URL.Query().Get("state") == "next" && r.URL.Query().Get("keep") == "1":
		if d := r.URL.Query().Get("digest"); d != string(brig.DigestOf([]byte(u.data))) {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}`)
			return
		}
		u.blobs[string(brig.DigestOf([]byte(u.data)))] = u.data
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (u *uploads) serve() (host string) {
	u.blobs = map[string]string{}
	s := httptest.NewServer(u)
	u.t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestUploadLocations follows a relative Location and one on another host, to which no credentials go.
func TestUploadLocations(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		var seen atomic.Bool
		store := &uploads{t: t, fault: func(_ http.ResponseWriter, r *http.Request) bool {
			seen.Store(seen.Load() || r.Header.Get("Authorization") != "")
			return false
		}}
		to := store.serve()
		front := &uploads{t: t, fault: func(w http.ResponseWriter, r *http.Request) bool {
			if _, _, ok := r.BasicAuth(); ok {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="brig"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}}
		if elsewhere {
			front.elsewhere = "http://" + to
		}
		host := front.serve()
		d, open := blobOf(layer)
		_, err := newRegistry(t, Config{}).PutBlob(t.Context(), host+"/app", "", d, open, brig.Auth{Username: "sailor", Password: "ahoy"})
		got := front.blobs
		if elsewhere {
			got = store.blobs
		}
		if err != nil || got[string(d.Digest)] != layer || seen.Load() {
			t.Errorf("elsewhere %v: %v, %v; credentials seen %v", elsewhere, err, got, seen.Load())
		}
	}
}

func isMethod(method string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method }
}

// once applies a fault to the first request that it concerns.
func once(f fault) fault {
	var done atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) bool { return !done.Load() && f(w, r) && !done.Swap(true) }
}

func TestHostileUploads(t *testing.T) {
	words := func(code, message string) string {
		return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
	broken := func(method string) fault {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != method {
				return false
			}
			r.Body.Read(make([]byte, 5))
			panic(http.ErrAbortHandler)
		}
	}
	for _, c := range []struct {
		name  string
		fault fault
		kind  errs.Kind
		want  string // "": success
	}{
		{"honest", nil, 0, ""},
		{"denied", say(isMethod("POST"), 403, words("DENIED", "requested access to the resource is denied")), errs.Forbidden, "denied: requested access to the resource is denied"},
		{"read only", say(isMethod("POST"), 405, words("UNSUPPORTED", "The operation is unsupported.")), errs.Invalid, "unsupported: The operation is unsupported."},
		{"no Location", say(isMethod("POST"), 202, ""), errs.Invalid, "does not say where to upload to"},
		{"Location of a file", say(isMethod("POST"), 202, "", "Location", "file:///etc/passwd"), errs.Invalid, "does not say where to upload to"},
		{"Location that is none", say(isMethod("POST"), 202, "", "Location", "http://[::1"), errs.Invalid, "does not say where"},
		{"200 instead of 202", say(isMethod("POST"), 200, ""), errs.Invalid, "unexpected HTTP status: 200"},
		{"broken midway", broken("PATCH"), errs.Unavailable, ""},
		{"too large", say(isMethod("PATCH"), 413, ""), errs.Invalid, "received unexpected HTTP status: 413"},
		{"disk full", say(isMethod("PATCH"), 507, ""), errs.Unavailable, "received unexpected HTTP status: 507"},
		{"too many while sending", say(isMethod("PATCH"), 429, words("TOOMANYREQUESTS", "slow down")), errs.Unavailable, "toomanyrequests: slow down"},
		{"too many once, before", once(say(isMethod("POST"), 429, "", "Retry-After", "99999999999")), 0, ""},
		{"upload forgotten", say(isMethod("PUT"), 404, words("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")), errs.NotFound, "blob upload unknown: blob upload unknown to registry"},
		{"digest", say(isMethod("PUT"), 400, words("DIGEST_INVALID", "provided digest did not match uploaded content")), errs.Invalid, "digest invalid: provided digest did not match"},
		{"no words", say(isMethod("PUT"), 500, strings.Repeat("<html>", 1<<20)), errs.Unavailable, "received unexpected HTTP status: 500"},
		{"broken at the end", broken("PUT"), errs.Unavailable, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &uploads{t: t, fault: c.fault}
			r := newRegistry(t, Config{})
			_, err := put(t, r, u.serve()+"/app", "", layer)
			if c.kind == 0 {
				if err != nil || len(u.blobs) != 1 {
					t.Errorf("%v, %d blobs", err, len(u.blobs))
				}
				return
			}
			if errs.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.want) || len(u.blobs) != 0 {
				t.Errorf("got %v (%v), want %s (%v); %d blobs", err, errs.KindOf(err), c.want, c.kind, len(u.blobs))
			}
			if n := strings.Count(strings.Join(u.calls, " "), "PATCH"); n > 1 {
				t.Errorf("the blob was sent %d times to one upload", n)
			}
		})
	}
}

// TestUploadSourceFails: it is the local file's error that comes back, not the registry's.
func TestUploadSourceFails(t *testing.T) {
	u := &uploads{t: t}
	host := u.serve()
	cut := errors.New("the disk is gone")
	d, _ := blobOf(layer)
	for name, open := range map[string]func() (io.ReadCloser, error){
		"open": func() (io.ReadCloser, error) { return nil, cut },
		"read": func() (io.ReadCloser, error) {
			r, w := io.Pipe()
			go w.CloseWithError(cut)
			return r, nil
		},
	} {
		if _, err := newRegistry(t, Config{}).PutBlob(t.Context(), host+"/app", "", d, open, brig.Auth{}); !errors.Is(err, cut) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(u.blobs) != 0 {
		t.Errorf("blobs %v", u.blobs)
	}
}

func TestPutManifestAnswers(t *testing.T) {
	sha := string(brig.DigestOf([]byte("other")))
	isPut := isMethod("PUT")
	for _, c := range []struct {
		name  string
		fault fault
		kind  errs.Kind
		want  string
	}{
		{"invalid", say(isPut, 400, `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"no"}]}`), errs.Invalid, "manifest invalid: manifest invalid"},
		{"stored another", say(isPut, 201, "", "Docker-Content-Digest", sha), errs.Invalid, "the registry has stored " + sha},
		{"later, then well", once(say(isPut, 503, "")), 0, ""},
		{"immutable", say(isPut, 409, `{"errors":[{"code":"TAG_IMMUTABLE","message":"the tag may not change"}]}`), errs.Invalid, "tag immutable: the tag may not change"},
	} {
		host := serve(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !c.fault(w, r) {
					next.ServeHTTP(w, r)
				}
			})
		})
		err := newRegistry(t, Config{}).PutManifest(t.Context(), host+"/app:1", typeOCIIndex, []byte(`{"schemaVersion":2,"mediaType":"`+typeOCIIndex+`","manifests":[]}`), brig.Auth{})
		if c.kind == 0 && err != nil || c.kind != 0 && (err == nil || errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v (%v), want %s", c.name, err, errs.KindOf(err), c.want)
		}
	}
}

// TestPushScopes: the token server is asked for the repository and, before a blob is mounted, for its source; a token that ends midway is
// replaced; a source that may not be read is not asked for twice, and the blob is uploaded.
func TestPushScopes(t *testing.T) {
	var mu sync.Mutex
	var asked [][]string
	secret := map[string]bool{"crew/hidden": true}
	serial := 0
	tokenServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		scopes := r.URL.Query()["scope"]
		asked = append(asked, scopes)
		granted := []string{fmt.Sprint(serial)}
		for _, s := range scopes {
			if !secret[strings.Split(s, ":")[1]] {
				granted = append(granted, s)
			}
		}
		json.NewEncoder(w).Encode(map[string]string{"token": strings.Join(granted, "|")})
	}))
	t.Cleanup(tokenServer.Close)
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if r.Method == http.MethodPatch && serial == 0 {
				serial++ // the token ends while the blob is on its way
			}
			token := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), "|")
			ok := token[0] == fmt.Sprint(serial)
			mu.Unlock()
			if from := r.URL.Query().Get("from"); from != "" {
				ok = ok && slices.Contains(token, "repository:"+from+":pull")
			}
			if strings.Contains(r.URL.Path, "/blobs/") {
				ok = ok && slices.Contains(token, "repository:crew/app:pull,push")
			}
			if !ok {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s",error="insufficient_scope"`, tokenServer.URL))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	r := newRegistry(t, Config{})
	if _, err := put(t, r, host+"/crew/app", "", layer); err != nil {
		t.Fatalf("with a token that ends midway: %v", err)
	}
	if d := brig.DigestOf([]byte(layer)); true {
		if has, err := r.HasBlob(t.Context(), host+"/crew/app", d, brig.Auth{}); err != nil || !has {
			t.Errorf("the blob is not there: %v", err)
		}
	}
	if _, err := put(t, r, host+"/crew/app", host+"/crew/base", "another layer"); err != nil {
		t.Errorf("mount: %v", err)
	}
	if last := asked[len(asked)-1]; !slices.Equal(last, []string{"repository:crew/app:pull,push", "repository:crew/base:pull"}) {
		t.Errorf("scopes %q", asked)
	}
	if mounted, err := put(t, r, host+"/crew/app", host+"/crew/hidden", "a third layer"); err != nil || mounted {
		t.Errorf("mount from where one may not read: %v, %v", mounted, err)
	}
}

func TestDescribeFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault
		ref   string
		kind  errs.Kind
		want  string
	}{
		{"unknown", say(isTopLevel, 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`), "app:1", errs.NotFound, "manifest unknown: manifest unknown"},
		{"denied", say(isTopLevel, 403, `{"errors":[{"code":"DENIED","message":"no"}]}`), "app:1", errs.Forbidden, "denied: no"},
		{"no config", say(isBlob, 404, ""), "app:1", errs.NotFound, "404"},
		{"config that is none", say(isBlob, 200, strings.Repeat("x", 78)), "app:1", errs.Invalid, "digest"},
		{"chart", say(isTopLevel, 200, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"`+string(brig.DigestOf(nil))+`"}}`), "app:1", errs.Invalid, "not a container image"},
	} {
		host := faulty(t, c.fault)
		_, err := newRegistry(t, Config{}).Describe(t.Context(), host+"/"+c.ref, brig.Auth{})
		if err == nil || errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%v)", c.name, err, errs.KindOf(err))
		}
	}
	host := faulty(t, func(http.ResponseWriter, *http.Request) bool { return false })
	d, err := newRegistry(t, Config{}).Describe(t.Context(), host+"/app:multi", brig.Auth{})
	if err != nil || len(d.Platforms) != 1 || d.Platforms[0].String() != "linux/amd64" {
		t.Errorf("index: %+v, %v", d, err)
	}
}
