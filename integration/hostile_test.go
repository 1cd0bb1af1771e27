package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// shelf is what a user sees of the store: after a refused image it is as before.
func shelf(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(ok(t, "images", "-a", "--digests", "--no-trunc"), "\n", ok(t, "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}"))
}

// refusedWhole runs docker, wants a failure with words, and a server that lives and holds what it held before.
func refusedWhole(t *testing.T, words, stdin string, args ...string) {
	t.Helper()
	seen, files := shelf(t), 0
	if bed.server.Owned {
		files = stored(t)
	}
	r := dockerIn(t, stdin, args...)
	if r.Code != 1 || !regexp.MustCompile(words).MatchString(r.Err) {
		t.Errorf("%s\nwant exit code 1 and %q on stderr", r, words)
	}
	equal(t, "what the store shows", shelf(t), seen)
	if bed.server.Owned {
		eventually(t, "nothing stored", func() (bool, string) {
			now := stored(t)
			return now == files, fmt.Sprint(now, " files, before ", files)
		})
	}
}

// TestHostileRegistry has the worst that registries can answer.
func TestHostileRegistry(t *testing.T) {
	own(t) // the words are brig's
	const sha = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	body := func(status int, text string, header ...string) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			for _, h := range []string{"Content-Length", "Docker-Content-Digest"} {
				w.Header().Del(h)
			}
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	change := func(old, by string) fault {
		return func(w http.ResponseWriter, r *http.Request, b []byte) {
			body(200, string(regexp.MustCompile(old).ReplaceAll(b, []byte(by))))(w, r, nil)
		}
	}
	const blobs, manifests = `/blobs/sha256:`, `/manifests/`
	for _, c := range []struct {
		name, path string
		f          fault
		words      string
	}{
		{"layers and manifests", manifests, change(`"layers":`, `"manifests":[],"layers":`), "ambiguous"},
		{"layers twice", manifests, change(`"layers":`, `"layers":[],"layers":`), "twice"},
		{"Layers", manifests, change(`"layers":`, `"Layers":`), `must be written`},
		{"digest that is a path", manifests, change(`"digest": *"sha256:[0-9a-f]*"`, `"digest":"sha256:../../../../etc/passwd"`), "invalid digest"},
		{"sha512", manifests, change(`"digest": *"sha256:([0-9a-f]*)"`, `"digest":"sha512:$1$1"`), "invalid digest"},
		{"negative size", manifests, change(`"size": *`, `"size":-`), "impossible size"},
		{"more layers than diffIDs", manifests, change(`"layers":\[(.*?)\]`, `"layers":[$1,$1]`), "2 layers, but its config names 1"},
		{"helm chart", manifests, change(`"mediaType": *"application/vnd.docker.container.image.v1\+json"`, `"mediaType":"application/vnd.cncf.helm.config.v1+json"`), "not a container image"},
		{"schema 1", manifests, body(200, `{"schemaVersion":1,"name":"x","fsLayers":[]}`), "no longer supported"},
		{"endless manifest", manifests, body(200, strings.Repeat(" ", 5<<20)), "larger than"},
		{"announced digest", manifests, func(w http.ResponseWriter, r *http.Request, b []byte) {
			body(200, string(b), "Docker-Content-Digest", sha)(w, r, nil)
		}, "announced"},
		{"to a file", blobs, body(307, "", "Location", "file:///etc/passwd"), "refused to be sent"},
		{"in a circle", manifests, func(w http.ResponseWriter, r *http.Request, _ []byte) {
			w.Header().Del("Content-Length")
			http.Redirect(w, r, r.URL.Path, 307)
		}, "10 redirects"},
		{"gigantic error", manifests, body(500, strings.Repeat("<p>", 4<<20)), "500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refusedWhole(t, c.words, "", "pull", lyingRegistry(t, c.path, c.f)+"/unique")
		})
	}
}

// member is one file of an archive for docker load.
type member struct {
	name, body string
	typ        byte // 0: a regular file
	link       string
}

func archiveOf(t *testing.T, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.typ, Linkname: m.link, Mode: 0o644, Size: int64(len(m.body))}
		if m.typ == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, m.body)
	}
	w.Close()
	return b.String()
}

func hexOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// TestHostileLoad gives docker load what nobody would save.
func TestHostileLoad(t *testing.T) {
	own(t)
	layer := archiveOf(t, member{name: "x", body: "y"})
	config := func(layer string) member {
		return member{name: "c.json", body: `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:` + hexOf(layer) + `"]}}`}
	}
	saved := func(layer string) member {
		return member{name: "manifest.json", body: `[{"Config":"c.json","RepoTags":["evil:1"],"Layers":["` + layer + `"]}]`}
	}
	image := func(layer string) []member {
		return []member{config(layer), saved("l.tar"), {name: "l.tar", body: layer}}
	}
	for _, c := range []struct {
		name, words string
		members     []member
	}{
		{"file of the host", "it has no", []member{config(layer), saved("../../../../../etc/passwd")}},
		{"link to a file of the host", "it has no", []member{config(layer), saved("l.tar"), {name: "l.tar", typ: tar.TypeSymlink, link: "/etc/passwd"}}},
		{"other layer than named", "digest", []member{config(layer), saved("l.tar"), {name: "l.tar", body: archiveOf(t)}}},
		{"layer that climbs", "(?i)outside|leaves|leads|invalid|above|traver|escape", image(archiveOf(t, member{name: "../../../evil", body: "x"}, member{name: "a", typ: tar.TypeSymlink, link: "../../.."}, member{name: "a/evil", body: "x"}))},
		{"layer with a hard link out", "(?i)outside|leaves|invalid|above|link|no such", image(archiveOf(t, member{name: "p", typ: tar.TypeLink, link: "../../../../etc/passwd"}))},
		{"layer that is no tar", "(?i)archive|tar|header", image(strings.Repeat("no tar at all. ", 100))},
		{"truncated layer", "(?i)EOF|archive", image(archiveOf(t, member{name: "x", body: strings.Repeat("x", 1000)})[:1000])},
		{"bad name", "invalid", []member{config(layer), {name: "l.tar", body: layer}, {name: "manifest.json", body: `[{"Config":"c.json","RepoTags":["../../x:1"],"Layers":["l.tar"]}]`}}},
	} {
		t.Run(c.name, func(t *testing.T) { refusedWhole(t, c.words, archiveOf(t, c.members...), "load") })
	}
	t.Run("import of no tar", func(t *testing.T) {
		refusedWhole(t, "(?i)archive|header|EOF|tar", strings.Repeat("this is no tar ", 200), "import", "-")
	})
	t.Run("import of half a tar", func(t *testing.T) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, layer)
		z.Close()
		refusedWhole(t, "(?i)EOF", b.String()[:b.Len()-9], "import", "-")
	})
}
