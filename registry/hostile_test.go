package registry

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func writeCA(t *testing.T, dir string, srv *httptest.Server) {
	t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A fault answers instead of the registry and reports true, or leaves the request alone.
type fault func(w http.ResponseWriter, req *http.Request) bool

// layer is the text of the one layer that images here have.
const layer = "a layer of some bytes"

// faulty serves an image app:1 and returns its host and a switch for the fault.
func faulty(t *testing.T, f fault) string {
	t.Helper()
	var on atomic.Bool
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !on.Load() || !f(w, req) {
				next.ServeHTTP(w, req)
			}
		})
	})
	p := pusher{t, host, "app", false}
	p.index("multi", typeOCIIndex, map[string]rawDescriptor{"linux/amd64": p.image("1", typeOCIManifest, "amd64", layer)})
	on.Store(true)
	return host
}

func isLayer(req *http.Request) bool {
	return strings.HasSuffix(req.URL.Path, "/blobs/"+string(brig.DigestOf([]byte(layer))))
}

func isBlob(req *http.Request) bool     { return strings.Contains(req.URL.Path, "/blobs/") }
func isTopLevel(req *http.Request) bool { return strings.Contains(req.URL.Path, "/manifests/") }

// say answers a matching request with the status, header pairs and body.
func say(match func(*http.Request) bool, status int, body string, header ...string) fault {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if !match(req) {
			return false
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}
}

func endless(match func(*http.Request) bool) fault {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if !match(req) {
			return false
		}
		junk := make([]byte, 64<<10)
		for {
			if _, err := w.Write(junk); err != nil {
				return true
			}
		}
	}
}

func TestHostileManifests(t *testing.T) {
	denied := `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`
	v2 := func(s string) string { return `{"schemaVersion":2,` + s + `}` }
	sha := "sha256:" + strings.Repeat("0", 64)
	tests := []struct {
		name  string
		fault fault
		kind  errs.Kind
		want  string
	}{
		{"denied", say(isTopLevel, 403, denied), errs.NotFound, "pull access denied for HOST/app, repository does not exist or may require 'docker login': denied: requested access"},
		{"name unknown", say(isTopLevel, 404, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}`), errs.NotFound, "repository HOST/app not found: name unknown"},
		{"404 without words", say(isTopLevel, 404, "gone fishing"), errs.NotFound, "received unexpected HTTP status: 404"},
		{"500", say(isTopLevel, 500, "<html>"), errs.Unavailable, "received unexpected HTTP status: 500"},
		{"429 for ever", say(isTopLevel, 429, "", "Retry-After", "1"), errs.Unavailable, "toomanyrequests"},
		{"401 without challenge", say(isTopLevel, 401, ""), errs.Unauthorized, "unauthorized: authentication required"},
		{"not JSON", say(isTopLevel, 200, "<html>"), errs.Invalid, "not valid JSON"},
		{"endless", endless(isTopLevel), errs.Invalid, "larger than 4194304 bytes"},
		{"schema 1", say(isTopLevel, 200, `{"schemaVersion":1,"name":"app","fsLayers":[]}`), errs.NotImplemented, "no longer supported"},
		{"schema 3", say(isTopLevel, 200, `{"schemaVersion":3}`), errs.Invalid, "schema version 3"},
		{"layers and manifests", say(isTopLevel, 200, v2(`"layers":[],"manifests":[]`)), errs.Invalid, "ambiguous"},
		{"index in disguise", say(isTopLevel, 200, v2(`"manifests":[]`), "Content-Type", typeOCIManifest), errs.Invalid, "its content is not"},
		{"two media types", say(isTopLevel, 200, v2(`"mediaType":"`+typeOCIIndex+`","manifests":[]`), "Content-Type", typeDockerList), errs.Invalid, "the registry says"},
		{"no config", say(isTopLevel, 200, v2(`"layers":[]`)), errs.Invalid, "no config"},
		{"a chart", say(isTopLevel, 200, v2(`"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"`+sha+`"}`)), errs.Invalid, "not a container image"},
		{"sha512", say(isTopLevel, 200, v2(`"config":{"digest":"sha512:00"}`)), errs.Invalid, "invalid digest"},
		{"path as digest", say(isTopLevel, 200, v2(`"config":{"digest":"sha256:../../../etc/passwd"}`)), errs.Invalid, "invalid digest"},
		{"negative size", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha+`","size":-1}`)), errs.Invalid, "impossible size"},
		{"huge config", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha+`","size":99999999}`)), errs.Invalid, "larger than 8388608"},
		{"announced digest differs", say(isTopLevel, 200, v2(`"layers":[]`), "Docker-Content-Digest", sha), errs.Invalid, "the registry announced"},
		{"byte order mark", say(isTopLevel, 200, "\ufeff"+v2(`"layers":[]`)), errs.Invalid, "not valid JSON"},
		{"trailing data", say(isTopLevel, 200, v2(`"layers":[]`)+"{}"), errs.Invalid, "not valid JSON"},
		{"empty", say(isTopLevel, 200, ""), errs.Invalid, "not valid JSON"},
		{"a list", say(isTopLevel, 200, "[]"), errs.Invalid, "not valid JSON"},
		{"too deep", say(isTopLevel, 200, v2(`"x":`+strings.Repeat("[", 1<<20))), errs.Invalid, "exceeded max depth"},
		{"layers twice", say(isTopLevel, 200, v2(`"layers":[],"layers":[]`)), errs.Invalid, `the key "layers" is there twice`},
		{"Layers and layers", say(isTopLevel, 200, v2(`"layers":[],"Layers":[]`)), errs.Invalid, `must be written "layers"`},
		{"manifests in disguise", say(isTopLevel, 200, v2(`"layers":[],"MANIFESTS":[]`)), errs.Invalid, `must be written "manifests"`},
		{"digest twice", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha+`","digest":"`+sha+`"}`)), errs.Invalid, "twice"},
		{"size of a text", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha+`","size":"1"}`)), errs.Invalid, "not valid JSON"},
		{"size beyond 64 bits", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha+`","size":99999999999999999999}`)), errs.Invalid, "not valid JSON"},
		{"upper case digest", say(isTopLevel, 200, v2(`"config":{"digest":"`+strings.Replace(sha, "0", "A", 1)+`"}`)), errs.Invalid, "invalid digest"},
		{"md5", say(isTopLevel, 200, v2(`"config":{"digest":"md5:`+strings.Repeat("0", 32)+`"}`)), errs.Invalid, "invalid digest"},
		{"short digest", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha[:70]+`"}`)), errs.Invalid, "invalid digest"},
		{"digest of a layer", say(isTopLevel, 200, v2(`"config":{"digest":"`+sha+`"},"layers":[{"digest":"sha256:x"}]`)), errs.Invalid, "layer 0: invalid digest"},
		{"an artifact", say(isTopLevel, 200, v2(`"artifactType":"a/b","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"`+sha+`","size":2}`)), errs.Invalid, "not a container image"},
		{"an index of indexes", say(isTopLevel, 200, v2(`"manifests":[{"mediaType":"`+typeOCIIndex+`","digest":"`+sha+`","platform":{"os":"linux","architecture":"amd64"}}]`)), errs.NotFound, "no matching manifest"},
		{"an index of nothing", say(isTopLevel, 200, v2(`"manifests":[]`)), errs.NotFound, "no matching manifest"},
		{"an index that names itself", say(isTopLevel, 200, v2(`"manifests":[{"digest":"`+sha+`"}]`)), errs.Invalid, "its bytes have the digest"},
		{"endless error", func(w http.ResponseWriter, req *http.Request) bool {
			if isTopLevel(req) {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return endless(isTopLevel)(w, req)
		}, errs.Unavailable, "received unexpected HTTP status: 500"},
		{"sent to a file", say(isTopLevel, 307, "", "Location", "file:///etc/passwd"), errs.Invalid, "refused to be sent to"},
		{"sent nowhere", say(isTopLevel, 307, ""), errs.Invalid, "unexpected HTTP status: 307"},
		{"wrong config bytes", say(isBlob, 200, strings.Repeat("x", 76)), errs.Invalid, ""},
		{"redirect loop", func(w http.ResponseWriter, req *http.Request) bool {
			http.Redirect(w, req, "/v2/"+req.URL.Path, http.StatusTemporaryRedirect)
			return true
		}, errs.Invalid, "stopped after 10 redirects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := faulty(t, tt.fault)
			_, err := newRegistry(t, Config{}).Resolve(t.Context(), host+"/app:1", "", brig.Auth{})
			want := strings.ReplaceAll(tt.want, "HOST", host)
			if err == nil || errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v (%v), want %s (%v)", err, errs.KindOf(err), want, tt.kind)
			}
		})
	}
}

// TestSwappedManifest serves other bytes under an index's entry than its digest names.
func TestSwappedManifest(t *testing.T) {
	match := func(req *http.Request) bool { return strings.Contains(req.URL.Path, "/manifests/sha256:") }
	host := faulty(t, say(match, 200, `{"schemaVersion":2,"layers":[]}`))
	_, err := newRegistry(t, Config{}).Resolve(t.Context(), host+"/app:multi", "linux/amd64", brig.Auth{})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "its bytes have the digest") {
		t.Error(err)
	}
}

func TestHostileLayers(t *testing.T) {
	n := len(layer)
	tests := []struct {
		name   string
		fault  fault
		offset int64
		kind   errs.Kind
		want   string // "" : the rest of the layer is read
	}{
		{"truncated", func(w http.ResponseWriter, req *http.Request) bool {
			if !isLayer(req) {
				return false
			}
			w.Header().Set("Content-Length", fmt.Sprint(n))
			fmt.Fprint(w, layer[:5])
			return true
		}, 0, errs.Unavailable, "unexpected EOF"},
		{"short and chunked", func(w http.ResponseWriter, req *http.Request) bool {
			if !isLayer(req) {
				return false
			}
			fmt.Fprint(w, layer[:5])
			w.(http.Flusher).Flush()
			return true
		}, 0, errs.Unavailable, "bytes are missing: unexpected EOF"},
		{"wrong length", say(isLayer, 200, layer+"!"), 0, errs.Invalid, "sends 22 bytes, 21 were announced"},
		{"endless", endless(isLayer), 0, errs.Invalid, "more bytes than announced"},
		{"no ranges", say(isLayer, 200, layer), 5, 0, ""},
		{"wrong range", say(isLayer, 206, layer, "Content-Range", fmt.Sprintf("bytes 0-%d/%d", n-1, n)), 5, errs.Invalid, "asked for bytes 5-20 of 21"},
		{"wrong total", say(isLayer, 206, layer[5:], "Content-Range", fmt.Sprintf("bytes 5-%d/99", n-1)), 5, errs.Invalid, "asked for"},
		{"range unasked", say(isLayer, 206, layer, "Content-Range", fmt.Sprintf("bytes 0-%d/%d", n-1, n)), 0, errs.Invalid, "206"},
		{"gone", say(isLayer, 404, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`), 0, errs.NotFound, "blob unknown: blob unknown to registry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := faulty(t, tt.fault)
			r := newRegistry(t, Config{})
			remote, err := r.Resolve(t.Context(), host+"/app:1", "", brig.Auth{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := readLayer(t, r, remote, 0, tt.offset)
			if tt.want == "" {
				if err != nil || got != layer[tt.offset:] {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err == nil || errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v (%v)", got, err, errs.KindOf(err))
			}
		})
	}
}

func TestComesBackLater(t *testing.T) {
	var busy atomic.Int32
	busy.Store(2)
	host := faulty(t, func(w http.ResponseWriter, req *http.Request) bool {
		if !isTopLevel(req) || busy.Add(-1) < 0 {
			return false
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	if _, err := newRegistry(t, Config{}).Resolve(t.Context(), host+"/app:1", "", brig.Auth{}); err != nil {
		t.Error(err)
	}
}

// TestTagsDoNotEnd follows a list whose next page is always itself, and one that leads to another host.
func TestTagsDoNotEnd(t *testing.T) {
	isTags := func(req *http.Request) bool { return strings.HasSuffix(req.URL.Path, "/tags/list") }
	for link, want := range map[string]string{
		`</v2/app/tags/list?last=x>; rel="next"`:     "does not end",
		`<http://192.0.2.1/v2/x/tags/l>; rel="next"`: "leads elsewhere",
	} {
		host := faulty(t, say(isTags, 200, `{"tags":["x"]}`, "Link", link))
		if _, err := newRegistry(t, Config{}).Tags(t.Context(), host+"/app", brig.Auth{}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", link, err)
		}
	}
}

// tokens is a registry that wants a bearer token, and its token server, on another port.
type tokens struct {
	serial  atomic.Int32 // of the token that is valid now
	refresh string       // identity token that is taken
}

func (k *tokens) registry(next http.Handler, realm string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", k.serial.Load()) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="harbour, main",scope="repository:app:pull"`, realm))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (k *tokens) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, pass, _ := req.BasicAuth()
	byPassword := user == "sailor" && pass == "ahoy" && req.Method == "GET" && req.URL.Query().Get("account") == "sailor"
	byToken := req.Method == "POST" && req.FormValue("grant_type") == "refresh_token" && req.FormValue("refresh_token") == k.refresh
	if req.FormValue("service") != "harbour, main" || !byPassword && !byToken {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"details":"incorrect username or password"}`)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"token": fmt.Sprintf("token-%d", k.serial.Load())})
}

func TestBearer(t *testing.T) {
	k := &tokens{refresh: "remember me"}
	tokenServer := httptest.NewServer(k)
	t.Cleanup(tokenServer.Close)
	var guard atomic.Bool
	host := serve(t, func(next http.Handler) http.Handler {
		guarded := k.registry(next, tokenServer.URL+"/token")
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if guard.Load() {
				guarded.ServeHTTP(w, req)
			} else {
				next.ServeHTTP(w, req)
			}
		})
	})
	pusher{t, host, "app", false}.image("1", typeOCIManifest, "amd64", layer)
	guard.Store(true)
	for _, tt := range []struct {
		name string
		auth brig.Auth
		ok   bool
	}{
		{"password", brig.Auth{Username: "sailor", Password: "ahoy"}, true},
		{"identity token", brig.Auth{Username: "<token>", IdentityToken: "remember me"}, true},
		{"registry token", brig.Auth{RegistryToken: "token-0"}, true},
		{"wrong password", brig.Auth{Username: "sailor", Password: "x"}, false},
		{"wrong identity token", brig.Auth{IdentityToken: "x"}, false},
		{"wrong registry token", brig.Auth{RegistryToken: "x"}, false},
		{"anonymous", brig.Auth{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k.serial.Store(0)
			r := newRegistry(t, Config{})
			remote, err := r.Resolve(t.Context(), host+"/app:1", "", tt.auth)
			if (err == nil) != tt.ok || !tt.ok && !errs.Is(err, errs.Unauthorized) {
				t.Fatalf("Resolve: %v (%v)", err, errs.KindOf(err))
			}
			if _, err := r.CheckAuth(t.Context(), host, tt.auth); (err == nil) != tt.ok {
				t.Errorf("CheckAuth: %v", err)
			}
			if !tt.ok || tt.auth.RegistryToken != "" {
				return
			}
			k.serial.Add(1) // the token has expired; a new one is fetched
			if got, err := readLayer(t, r, remote, 0, 0); err != nil || got != layer {
				t.Errorf("layer after the token's end: %q, %v", got, err)
			}
		})
	}
}

// TestCredentialsStayHome sends blobs to another host, which must not see the password.
func TestCredentialsStayHome(t *testing.T) {
	var seen atomic.Int32
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			seen.Add(1)
		}
		fmt.Fprint(w, layer)
	}))
	t.Cleanup(store.Close)
	host := faulty(t, func(w http.ResponseWriter, req *http.Request) bool {
		if _, _, ok := req.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="brig"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if isLayer(req) {
			http.Redirect(w, req, store.URL+"/layer", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	r := newRegistry(t, Config{})
	remote, err := r.Resolve(t.Context(), host+"/app:1", "", brig.Auth{Username: "sailor", Password: "ahoy"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readLayer(t, r, remote, 0, 0); err != nil || got != layer || seen.Load() != 0 {
		t.Errorf("got %q, %v; the store saw credentials %d times", got, err, seen.Load())
	}
}
