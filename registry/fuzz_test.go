package registry

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// FuzzManifest: no bytes are an image manifest and an index, whatever they are called; every digest that comes out of them is valid; and
// a manifest that is written anew from what was read is read as the same.
func FuzzManifest(f *testing.F) {
	sha := "sha256:" + strings.Repeat("ab", 32)
	for _, s := range []string{
		`{"schemaVersion":2,"mediaType":"` + typeDockerManifest + `","config":{"digest":"` + sha + `","size":7},"layers":[{"digest":"` + sha + `"},{"size":-1}]}`,
		`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + sha + `"},"layers":[{"digest":"` + sha + `","urls":["file:///"]}]}`,
		`{"schemaVersion":2,"manifests":[{"digest":"` + sha + `","platform":{"os":"linux"}},{"platform":{}},{"digest":"` + sha + `"}]}`,
		`{"schemaVersion":2,"mediaType":"` + typeOCIIndex + `","manifests":[{"digest":"` + sha + `","platform":{"os":"linux","architecture":"amd64"}}]}`,
		`{"schemaVersion":1,"fsLayers":[]}`, `{"schemaVersion":2,"layers":null,"manifests":[null]}`, `{"schemaVersion":2,"layers":[],"Manifests":[]}`, `[]`, ``,
	} {
		f.Add([]byte(s), typeOCIManifest, "linux/arm64/v8")
		f.Add([]byte(s), "application/json; charset=utf-8", "")
	}
	f.Fuzz(func(t *testing.T, b []byte, contentType, platform string) {
		images, indexes := 0, 0
		for _, ct := range []string{contentType, "", typeDockerManifest, typeDockerList, typeOCIManifest, typeOCIIndex} {
			d, err := parseDocument(b, ct)
			if err != nil {
				kind(t, err, errs.Invalid, errs.NotImplemented)
				continue
			}
			if m, err := parseManifest(d); err == nil {
				images++
				sameAgain(t, m)
			} else {
				kind(t, err, errs.Invalid)
			}
			if !d.isIndex() {
				continue
			}
			if e, err := pick(d, wanted(platform)); err == nil {
				indexes++
				descriptorOK(t, e)
			} else {
				kind(t, err, errs.Invalid, errs.NotFound)
			}
		}
		if images > 0 && indexes > 0 {
			t.Errorf("an image and an index: %s", b)
		}
	})
}

func kind(t *testing.T, err error, kinds ...errs.Kind) {
	t.Helper()
	for _, k := range kinds {
		if errs.Is(err, k) {
			return
		}
	}
	t.Errorf("%v: %v, want one of %v", errs.KindOf(err), err, kinds)
}

func descriptorOK(t *testing.T, d brig.Descriptor) {
	t.Helper()
	if _, err := brig.ParseDigest(string(d.Digest)); err != nil || d.Size < 0 {
		t.Errorf("descriptor %+v", d)
	}
}

// sameAgain writes what was read and reads it.
func sameAgain(t *testing.T, m *manifest) {
	t.Helper()
	raw := func(d brig.Descriptor) map[string]any {
		descriptorOK(t, d)
		return map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size}
	}
	layers := []any{}
	for _, l := range m.Layers {
		layers = append(layers, raw(l))
	}
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeOCIManifest, "config": raw(m.Config), "layers": layers})
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDocument(b, typeOCIManifest)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if again, err := parseManifest(d); err != nil || !reflect.DeepEqual(again, m) {
		t.Errorf("%+v, then %+v, %v", m, again, err)
	}
}

// FuzzReference: what is accepted reads the same when it is printed, and makes a URL beneath its repository and nowhere else.
func FuzzReference(f *testing.F) {
	sha := "sha256:" + strings.Repeat("0", 64)
	for _, s := range []string{"busybox", "a/b:c", "localhost:5000/x@sha256:0000", "[::1]:5000/x:y", "docker.io/library/x:1@" + sha, "UP/x", "a/../b", "x@sha512:" + strings.Repeat("0", 128)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseRef(s)
		if err != nil {
			kind(t, err, errs.Invalid)
			return
		}
		again, err := parseRef(n.String())
		if err != nil || again.String() != n.String() {
			t.Errorf("%q is %s, then %v, %v", s, n, again, err)
		}
		se := &session{host: reference.Domain(n), repo: reference.Path(n)}
		se.base.Scheme, se.base.Host = "https", se.host
		u := se.url("manifests", tagOrDigest(n))
		if want := "/v2/" + se.repo + "/manifests/" + tagOrDigest(n); u.Path != want || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, "/../") || strings.Contains(u.Path, "//") {
			t.Errorf("%q leads to %s", s, u)
		}
		if req, err := http.NewRequest("GET", u.String(), nil); err != nil || req.URL.Host != se.host || req.URL.Path != u.Path {
			t.Errorf("%q: request to %v, %v", s, req, err)
		}
	})
}

// FuzzChallenge: what is read is no more than what came, and reads the same when it is printed.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="x",a=b Basic`)
	f.Add(`Negotiate, Basic realm="a \"b\\", Bearer realm="https://x/t",service=s , scope="a,b"`)
	f.Fuzz(func(t *testing.T, s string) {
		got := challenges(http.Header{"Www-Authenticate": {s}})
		size, printed := 0, []string{}
		for _, c := range got {
			size += len(c.scheme)
			if !isToken(c.scheme) {
				t.Errorf("%q: scheme %q", s, c.scheme)
			}
			line := c.scheme
			for k, v := range c.params {
				size += len(k) + len(v)
				if !isToken(k) {
					t.Errorf("%q: key %q", s, k)
				}
				if line != c.scheme {
					line += ","
				}
				line += " " + k + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
			}
			printed = append(printed, line)
		}
		if low := strings.ToLower(s); size > max(len(s), len(low)) {
			t.Errorf("%d bytes came, %d were read: %v", len(s), size, got)
		}
		if again := challenges(http.Header{"Www-Authenticate": printed}); len(got) > 0 && !reflect.DeepEqual(again, got) {
			t.Errorf("%q is %v; printed %q it is %v", s, got, printed, again)
		}
	})
}

// FuzzRefusal: every answer that is no success becomes an error of one line's use: with words, a kind that is not Internal, and no more text
// than a bounded body gives.
func FuzzRefusal(f *testing.F) {
	f.Add(404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}`, "")
	f.Add(401, ``, `Bearer realm="x",error="insufficient_scope"`)
	f.Add(503, `<html>`, `Bearer error=invalid_token,error_description=""`)
	f.Add(418, `{"errors":[{"code":"","message":"\u0000"}],"details":"x"}`, "")
	f.Fuzz(func(t *testing.T, status int, body, challenge string) {
		if status < 300 || status > 599 {
			return
		}
		resp := func() *http.Response {
			return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Www-Authenticate": {challenge}}, Body: io.NopCloser(strings.NewReader(body))}
		}
		named, _ := parseRef("host/app:1")
		for _, err := range []error{refused(resp()), pullError(refused(resp()), named), tokenRefused(resp(), []byte(body))} {
			if err == nil || errs.Is(err, errs.Internal) || strings.TrimSpace(err.Error()) == "" || len(err.Error()) > 2*maxRefusal+len(challenge)+1000 {
				t.Errorf("%d %q %q: %v (%v)", status, body, challenge, err, errs.KindOf(err))
			}
		}
	})
}
