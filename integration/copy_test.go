package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// entriesOf lists a tar's names, clean and without the slash in front, sorted.
func entriesOf(t *testing.T, archive string) (names []string) {
	t.Helper()
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(path.Clean("/"+h.Name), "/"))
	}
}

// send makes one request of the bare API. A body is JSON or a tar, as the server finds it.
func send(t testing.TB, method, path string, body []byte) (status int, answer string) {
	t.Helper()
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// among picks those that lie in one of the folders.
func among(names []string, folders ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(folders, strings.Split(n, "/")[0]) }), " ")
}

// TestCopyBeneathMounts copies archives into and out of a folder above a container's mounts: they go to where the container sees them. What
// shows only the container's own files shows nothing of the mounts.
func TestCopyBeneathMounts(t *testing.T) {
	fileMounts := hostDiffers["file mounts"] == ""
	for _, state := range []string{"created", "running", "stopped"} {
		t.Run(state, func(t *testing.T) {
			srv, inner, ro := vol(t), vol(t), vol(t)
			flags := []string{"create", "-v", srv + ":/srv", "-v", inner + ":/srv/in", "-v", ro + ":/ro:ro", "-v", t.TempDir() + ":/bnd"}
			if fileMounts {
				flags = append(flags, "-v", tempFile(t, "file", "host")+":/file")
			}
			id := made(t, ok(t, append(flags, image("busybox"), "sleep", "1000")...))
			if state != "created" {
				ok(t, "start", id)
			}
			if state == "stopped" {
				ok(t, "kill", id)
				ok(t, "wait", id)
			}
			put := func(to string, files ...[2]string) (string, bool) {
				t.Helper()
				r := dockerIn(t, string(tarBytes(t, files...)), "cp", "-", id+":"+to)
				return r.Err, r.Code == 0
			}
			for _, c := range []struct{ to, name, words string }{
				{"/", "srv/a", ""}, {"/", "srv/sub/b", ""}, {"/", "srv/in/c", ""}, {"/srv", "in/d", ""}, {"/", "bnd/e", ""}, {"/", "root/f", ""},
				{"/", "ro/x", "open /ro/x: read-only file system"},
				{"/", "ro/sub/x", "read-only file system"},
				{"/", "file", "unlinkat /+file: device (or resource )?busy"},
				{"/", "srv", `(?i)cannot overwrite directory`},
				{"/ro", "x", "mounted volume is marked read-only"},
			} {
				if c.name == "file" && !fileMounts {
					continue
				}
				said, done := put(c.to, [2]string{c.name, "new"})
				if done != (c.words == "") || !regexp.MustCompile(c.words).MatchString(said) {
					t.Errorf("%s into %s: %q, want %q", c.name, c.to, said, c.words)
				}
			}
			if state != "created" { // the engine's own mounts are there from the first start on
				for name, words := range map[string]string{"etc/hosts": "unlinkat /etc/hosts: device (or resource )?busy", "etc": "(?i)cannot overwrite directory"} {
					if said, done := put("/", [2]string{name, "new"}); done || !regexp.MustCompile(words).MatchString(said) {
						t.Errorf("%s: %q, want %q", name, said, words)
					}
				}
			}
			const find = "cd /v; find . -type f | sort"
			equal(t, "the volume", ok(t, "run", "--rm", "-v", srv+":/v", image("busybox"), "sh", "-c", find), "./a\n./sub/b")
			equal(t, "the one in it", ok(t, "run", "--rm", "-v", inner+":/v", image("busybox"), "sh", "-c", find), "./c\n./d")
			equal(t, "the read-only one", ok(t, "run", "--rm", "-v", ro+":/v", image("busybox"), "sh", "-c", find), "")

			out := entriesOf(t, docker(t, "cp", id+":/", "-").Out)
			equal(t, "copied out", among(out, "srv", "bnd", "ro"), "bnd bnd/e ro srv srv/a srv/in srv/in/c srv/in/d srv/sub srv/sub/b")
			equal(t, "copied out of a file", among(out, "file"), map[bool]string{true: "file"}[fileMounts])
			equal(t, "copied out of the mount", strings.Join(entriesOf(t, docker(t, "cp", id+":/srv", "-").Out), " "), "srv srv/a srv/in srv/in/c srv/in/d srv/sub srv/sub/b")
			match(t, "diff", ok(t, "diff", id), `(?m)^A /root/f$`)
			if diff := ok(t, "diff", id); regexp.MustCompile(`/(srv|bnd|ro)/(a|e|sub|in/)|/file/`).MatchString(diff) {
				t.Errorf("diff has what the mounts have: %s", diff)
			}
			const leaves = "srv/a srv/sub srv/in/c bnd/e"
			for _, name := range entriesOf(t, docker(t, "export", id).Out) {
				if slices.Contains(strings.Fields(leaves), name) {
					t.Errorf("export has %s", name)
				}
			}
			tag := fresh("copied")
			t.Cleanup(func() { docker(t, "rmi", "-f", tag) })
			ok(t, "commit", id, tag)
			equal(t, "committed", ok(t, "run", "--rm", tag, "sh", "-c", "for f in "+leaves+" root/f; do test -e /$f && echo $f; done; true"), "root/f")
			ok(t, "restart", "-t", "0", id)
			equal(t, "in the container", ok(t, "exec", id, "cat", "/srv/a", "/srv/in/d", "/bnd/e"), "newnewnew")
			if fileMounts {
				equal(t, "the file", ok(t, "exec", id, "cat", "/file"), "host")
			}
		})
	}
}

// TestCopyOverPlacesOfMounts sends what the docker command asks the server not to overwrite, by the bare API.
func TestCopyOverPlacesOfMounts(t *testing.T) {
	v := vol(t)
	id := container(t, "-v", v+":/srv", image("busybox"), "sleep", "1000")
	ok(t, "exec", id, "touch", "/srv/kept")
	for _, name := range []string{"srv", "etc", "etc/hosts"} {
		code, body := send(t, "PUT", "/containers/"+id+"/archive?path=/", tarBytes(t, [2]string{name, "x"}))
		equal(t, name, code, 500)
		match(t, name, body, `unlinkat /+`+name+`[^ ]*: device (or resource )?busy`)
	}
	if bed.server.Owned { // dockerd has removed what it could by then
		ok(t, "exec", id, "test", "-f", "/srv/kept", "-a", "-f", "/etc/passwd")
	}
	ok(t, "restart", "-t", "0", id)
}

// TestCopyThroughLinksToMounts has a volume at a path that leads through the image's links: /link/v is /real/v.
func TestCopyThroughLinksToMounts(t *testing.T) {
	tag, v := fresh("linked"), vol(t)
	t.Cleanup(func() { docker(t, "rmi", "-f", tag) })
	maker := container(t, image("busybox"), "sh", "-c", "mkdir /real; ln -s /real /link; sleep 1000")
	eventually(t, "the link", func() (bool, string) { return docker(t, "exec", maker, "test", "-h", "/link").Code == 0, "" })
	ok(t, "commit", maker, tag)
	id := container(t, "-v", v+":/link/v", tag, "sleep", "1000")
	for _, p := range []string{"/link/v/a", "/real/v/b"} {
		ok(t, "cp", tempFile(t, "f", p), id+":"+p)
	}
	equal(t, "in the container", ok(t, "exec", id, "sh", "-c", "cat /link/v/a; cat /real/v/b"), "/link/v/a/real/v/b")
	equal(t, "in the volume", ok(t, "run", "--rm", "-v", v+":/v", image("busybox"), "ls", "/v"), "a\nb")
	equal(t, "out of the container", strings.Join(entriesOf(t, docker(t, "cp", id+":/real", "-").Out), " "), "real real/v real/v/a real/v/b")
}
