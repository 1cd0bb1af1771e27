package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/tarfs"
)

// archive makes a tar of files, compressed if asked.
func archive(t *testing.T, zip bool, headers ...*tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		data := []byte("data")
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(data))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			tw.Write(data)
		}
	}
	tw.Close()
	if !zip {
		return b.String()
	}
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	zw.Write(b.Bytes())
	zw.Close()
	return z.String()
}

func TestCopy(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{
		"a": "A", "b": "B", "d/f": "F", "d/s/g": "G", "d/l": "-> f", "l": "-> a", "ld": "-> d", "up": "-> ../../../../etc/passwd", "abs": "-> /a",
		"w1.txt": "1", "w2.txt": "2", "x/y/z": "Z", "x/y.md": "M", "[odd]": "odd", "e/": "",
		"t.tar": archive(t, false, &tar.Header{Name: "in/f", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 7, Gid: 8}),
		"t.tgz": archive(t, true, &tar.Header{Name: "in/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 7, Gid: 8}, &tar.Header{Name: "in/f", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 7, Gid: 8}),
	}
	for _, c := range []struct{ name, lines, under, want string }{
		{"file", "COPY a /x", "x", `/x -rw-r--r-- 0:0 "A"`},
		{"new directory", "COPY a /n/m/", "n", "/n drwxr-xr-x 0:0\n/n/m drwxr-xr-x 0:0\n" + `/n/m/a -rw-r--r-- 0:0 "A"`},
		{"into a directory", "COPY a /old", "old/a", `/old/a -rw-r--r-- 0:0 "A"`},
		{"relative", "WORKDIR /w\nCOPY a .\nCOPY b sub/c", "w", "/w drwxr-xr-x 0:0\n" + `/w/a -rw-r--r-- 0:0 "A"` + "\n/w/sub drwxr-xr-x 0:0\n" + `/w/sub/c -rw-r--r-- 0:0 "B"`},
		{"contents", "COPY d /n", "n", "/n drwxr-xr-x 0:0\n" + `/n/f -rw-r--r-- 0:0 "F"` + "\n/n/l Lrwxrwxrwx 0:0 -> f\n/n/s drwxr-xr-x 0:0\n" + `/n/s/g -rw-r--r-- 0:0 "G"`},
		{"link is followed", "COPY l /x\nCOPY ld/s /y\nCOPY abs /z", "x", `/x -rw-r--r-- 0:0 "A"`},
		{"wildcards", "COPY w?.txt d*/s /n/", "n", "/n drwxr-xr-x 0:0\n" + `/n/g -rw-r--r-- 0:0 "G"` + "\n" + `/n/w1.txt -rw-r--r-- 0:0 "1"` + "\n" + `/n/w2.txt -rw-r--r-- 0:0 "2"`},
		{"quoted wildcard", `COPY ["[[]odd]", "/x"]`, "x", `/x -rw-r--r-- 0:0 "odd"`},
		{"chown", "COPY --chown=app:staff a /o/\nCOPY --chown=app d/s /p", "o", "/o drwxr-xr-x 1000:50\n" + `/o/a -rw-r--r-- 1000:50 "A"`},
		{"chown alone", "COPY --chown=app d/s /p", "p", "/p drwxr-xr-x 1000:1001\n" + `/p/g -rw-r--r-- 1000:1001 "G"`},
		{"chmod", "COPY --chmod=u=rw,go= a /x", "x", `/x -rw------- 0:0 "A"`},
		{"chmod of a tree", "COPY --chmod=750 d/s /n/s", "n", "/n drwxr-xr-x 0:0\n/n/s drwxr-xr-x 0:0\n" + `/n/s/g -rwxr-x--- 0:0 "G"`},
		{"link flag", "COPY --link a /x", "x", `/x -rw-r--r-- 0:0 "A"`},
		{"exclude", "COPY --exclude=*.md --exclude=y/z x /n\nCOPY --exclude=w1* w* /n/", "n", "/n drwxr-xr-x 0:0\n" + `/n/w2.txt -rw-r--r-- 0:0 "2"` + "\n/n/y drwxr-xr-x 0:0"},
		{"parents", "COPY --parents x/y/z x/*.md /n/", "n", "/n drwxr-xr-x 0:0\n/n/x drwxr-xr-x 0:0\n/n/x/y drwxr-xr-x 0:0\n" + `/n/x/y/z -rw-r--r-- 0:0 "Z"` + "\n" + `/n/x/y.md -rw-r--r-- 0:0 "M"`},
		{"parents from a pivot", "COPY --parents x/./y/z /n/", "n", "/n drwxr-xr-x 0:0\n/n/y drwxr-xr-x 0:0\n" + `/n/y/z -rw-r--r-- 0:0 "Z"`},
		{"parents of a directory", "COPY --parents d/s /n/", "n", "/n drwxr-xr-x 0:0\n/n/d drwxr-xr-x 0:0\n/n/d/s drwxr-xr-x 0:0\n" + `/n/d/s/g -rw-r--r-- 0:0 "G"`},
		{"heredoc", "ARG V=v\nCOPY <<A <<-'B' /n/\nx \"$V\"\nA\n\ty $V\nB", "n", "/n drwxr-xr-x 0:0\n" + `/n/A -rw-r--r-- 0:0 "x \"v\"\n"` + "\n" + `/n/B -rw-r--r-- 0:0 "y $V\n"`},
		{"archive", "ADD t.tar /n", "n", "/n drwxr-xr-x 0:0\n/n/in drwxr-xr-x 0:0\n" + `/n/in/f -rw-r----- 7:8 "data"`},
		{"compressed archive", "ADD t.tgz /n/", "n", "/n drwxr-xr-x 0:0\n/n/in drwx------ 7:8\n" + `/n/in/f -rw-r----- 7:8 "data"`},
		{"archive with owner", "ADD --chown=app:staff t.tgz /n/", "n", "/n drwxr-xr-x 0:0\n/n/in drwx------ 1000:50\n" + `/n/in/f -rw-r----- 1000:50 "data"`},
		{"archive as it is", "ADD --unpack=false t.tgz /n/", "n/t.tgz", ""},
		{"no archive", "ADD a /x", "x", `/x -rw-r--r-- 0:0 "A"`},
		{"empty directory", "COPY e /n/e", "n", "/n drwxr-xr-x 0:0\n/n/e drwxr-xr-x 0:0"},
		{"destination is a link", "RUN write /real/keep k\nRUN write /t 1\nCOPY d/l /sym\nCOPY a /old/file", "old/file", `/old/file -rw-r--r-- 0:0 "A"`},
		{"from an image", "COPY --from=bb /etc/passwd /old /n/", "n/file", `/n/file -rw-r--r-- 0:0 "old"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			got := w.try("FROM bb\n"+c.lines, files).ok().list(c.under)
			if c.want != "" && got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

// TestCopyKeepsOwners: what comes of a stage or an image stays whose it was.
func TestCopyKeepsOwners(t *testing.T) {
	w := newWorld(t)
	got := w.try("FROM bb AS x\nCOPY --chown=5:6 --chmod=4755 a /o/\nFROM bb\nCOPY --from=x /o /p\nCOPY --from=x --chown=7 /o/a /q", map[string]string{"a": "A"}).ok()
	if l := got.list("p") + "\n" + got.list("q"); l != "/p drwxr-xr-x 0:0\n"+`/p/a urwxr-xr-x 5:6 "A"`+"\n"+`/q urwxr-xr-x 7:7 "A"` {
		t.Error(l)
	}
}

func TestCopyRefuses(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ lines, want string }{
		{"COPY nope /", "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"},
		{"COPY secret /", "COPY failed: file not found in build context or excluded by .dockerignore: stat secret: file does not exist"},
		{"COPY to-secret /", "COPY failed: file not found in build context or excluded by .dockerignore: stat to-secret: file does not exist"},
		{"COPY no* /", "COPY failed: no source files were specified"},
		{"COPY [ /", "COPY failed: no source files were specified"},
		{"COPY ../x /", "COPY failed: forbidden path outside the build context: ../x ()"},
		{"COPY d/../../x /", "COPY failed: forbidden path outside the build context: d/../../x ()"},
		{"COPY up /", "COPY failed: file not found in build context or excluded by .dockerignore: stat up: file does not exist"},
		{"COPY loop /", "COPY failed: forbidden path outside the build context: loop ()"},
		{"COPY a b /x", "When using COPY with more than one source file, the destination must be a directory and end with a /"},
		{"COPY http://x/y /", "COPY failed: source can't be a URL for COPY"},
		{"COPY --from=0 a /", "invalid from flag value 0: refers to current build stage"},
		{"COPY --from=9 a /", "invalid from flag value 9: index out of bounds"},
		{"COPY --from=bb /nope /", "COPY failed: stat nope: file does not exist"},
		{"COPY --from=nope:1 /x /", "invalid from flag value nope:1: pull access denied for nope:1"},
		{"COPY --chown=nobody a /", "unable to convert uid/gid chown string to host mapping: can't find uid for user nobody: no such user: nobody"},
		{"COPY --chown=1:none a /", "unable to convert uid/gid chown string to host mapping: can't find gid for group none: no such group: none"},
		{"COPY --chown=1:2:3 a /", "unable to convert uid/gid chown string to host mapping: invalid chown string provided: 1:2:3"},
		{"COPY --chmod=9 a /", "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777, or a symbolic mode"},
		{"COPY a /etc/passwd/x", "failed to copy files: failed to create new directory: mkdir /etc/passwd: not a directory"},
		{"COPY d /etc/passwd", "failed to copy files: failed to copy directory: mkdir /etc/passwd: not a directory"},
		{"WORKDIR /etc/passwd", "Cannot mkdir: /etc/passwd is not a directory"},
		{"ADD --checksum=sha256:x a /", "ADD failed: checksum can't be specified for non-HTTP(S) sources"},
	} {
		got := w.try("FROM bb\n"+c.lines, map[string]string{"a": "A", "b": "B", "d/f": "F", "secret": "S", "to-secret": "-> secret", "up": "-> ../../../../etc/passwd",
			"loop": "-> loop", ".dockerignore": "secret\n"})
		if got.err == nil || got.err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.lines, got.err, c.want)
		}
	}
}

// TestIgnore: .dockerignore hides files from COPY and from mounts; a file of the Dockerfile's own takes its place.
func TestIgnore(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{
		"a.log": "1", "b": "2", "sub/c.log": "3", "sub/keep.log": "4", "sub/deep/d": "5", "other/o": "6", "x.df": "FROM bb\nCOPY . /n\n",
		".dockerignore": "# comment\n**/*.log\n!sub/keep.log\nother\nsub/deep\n.dockerignore\n*ockerfile\n*.df*", "x.df.dockerignore": "*\n!b\n",
	}
	want := "/n drwxr-xr-x 0:0\n" + `/n/b -rw-r--r-- 0:0 "2"` + "\n/n/sub drwxr-xr-x 0:0\n" + `/n/sub/keep.log -rw-r--r-- 0:0 "4"`
	if got := w.try("FROM bb\nCOPY . /n", files).ok().list("n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := w.try("FROM bb\nCOPY sub* b /n/", files).ok().list("n"); got != "/n drwxr-xr-x 0:0\n"+`/n/b -rw-r--r-- 0:0 "2"`+"\n"+`/n/keep.log -rw-r--r-- 0:0 "4"` {
		t.Error(got)
	}
	own := w.try("", files, func(r *brig.BuildRequest) { r.Dockerfile = "x.df" }).ok()
	if got := own.list("n"); got != "/n drwxr-xr-x 0:0\n"+`/n/b -rw-r--r-- 0:0 "2"` {
		t.Error(got)
	}
	if got := w.try("FROM bb\nRUN --mount=target=/src cat /src/b\nRUN --mount=target=/src cat /src/a.log", files); got.err == nil || !strings.Contains(got.text, "\n2\n") {
		t.Errorf("%v\n%s", got.err, got.text)
	}
}

// TestHostileTree: nothing in the image's own file system leads a COPY, a WORKDIR or an ADD out of it.
func TestHostileTree(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	top := w.chain(w.bases["bb"].Chain)
	for name, to := range map[string]string{"abs": outside, "rel": "../../../../../../../.." + outside, "up": "..", "chain": "abs/x", "passwd": "/etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	got := w.try(`FROM bb
COPY a /abs/one
COPY a /rel/two/
COPY a /up/three
COPY d /chain
WORKDIR /abs/dir
ADD t.tar /rel
COPY --chown=app a /passwd
`, map[string]string{"a": "A", "d/f": "F", "t.tar": archive(t, false, &tar.Header{Name: "../../evil", Typeflag: tar.TypeReg, Mode: 0o644})})
	if got.err == nil {
		t.Error("an archive with ../ was taken")
	}
	if list, _ := os.ReadDir(outside); len(list) != 0 {
		t.Errorf("outside: %v", list)
	}
	w.try("FROM bb\nCOPY a /abs/one\nCOPY a /rel/two/\nCOPY a /up/three\nCOPY d /chain\nWORKDIR /abs/dir\nCOPY --chown=app a /passwd", map[string]string{"a": "A", "d/f": "F"}).ok()
	if list, _ := os.ReadDir(outside); len(list) != 0 {
		t.Errorf("outside: %v", list)
	}
}

// TestHostileContext: special files are no way to hang a build, and a Dockerfile is a regular file of the context.
func TestHostileContext(t *testing.T) {
	w := newWorld(t)
	dir := w.files(map[string]string{"Dockerfile": "FROM bb\nCOPY . /n\n", "a": "A", "dl": "-> Dockerfile"})
	special := archive(t, false, &tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, &tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o644, Devmajor: 1, Devminor: 3})
	if _, err := tarfs.Extract(t.Context(), dir, strings.NewReader(special), tarfs.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	b := w.builder()
	got := w.run(t.Context(), b, brig.BuildRequest{Context: dir}).ok()
	if l := got.list("n"); !strings.Contains(l, "/n/fifo prw-------") || !strings.Contains(l, "/n/null Dcrw-r--r--") || !strings.Contains(l, `/n/hard -rw-r--r-- 0:0 "A"`) {
		t.Error(l)
	}
	for name, want := range map[string]string{
		"fifo": "fifo is not a regular file", "../x": "forbidden path outside the build context: ../x ()", "nope": "Cannot locate specified Dockerfile: nope",
		"a/b": "Cannot locate specified Dockerfile: a/b",
	} {
		if got := w.run(t.Context(), b, brig.BuildRequest{Context: dir, Dockerfile: name}); got.err == nil || got.err.Error() != want || got.text != "" {
			t.Errorf("%s: %v %q", name, got.err, got.text)
		}
	}
	w.run(t.Context(), b, brig.BuildRequest{Context: dir, Dockerfile: "dl"}).ok()
}

func TestAddURL(t *testing.T) {
	w := newWorld(t)
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/no":
			http.Error(rw, "gone", http.StatusNotFound)
			return
		case "/named/":
			rw.Header().Set("Content-Disposition", `attachment; filename="../said"`)
		case "/t.tgz":
			rw.Write([]byte(archive(t, true, &tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o600})))
			return
		}
		rw.Header().Set("Last-Modified", when.Format(http.TimeFormat))
		rw.Write([]byte("hello"))
	}))
	defer srv.Close()
	sum := "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	got := w.try("FROM bb\nADD URL/x.txt /n/\nADD URL/named/ /n/\nADD --chmod=644 --chown=3:4 --checksum="+sum+" URL/y /n/z\nADD URL/t.tgz /n/\nADD --unpack=true URL/t.tgz /m", nil,
		func(r *brig.BuildRequest) { replace(t, r, srv.URL) }).ok()
	want := "/n drwxr-xr-x 0:0\n" + `/n/said -rw------- 0:0 "hello"` + "\n/n/t.tgz -rw------- 0:0"
	l := got.list("n")
	if !strings.HasPrefix(l, want) || !strings.Contains(l, "\n"+`/n/x.txt -rw------- 0:0 "hello"`+"\n"+`/n/z -rw-r--r-- 3:4 "hello"`) {
		t.Error(l)
	}
	if l := got.list("m"); !strings.Contains(l, `/m/f -rw------- 0:0 "data"`) {
		t.Error(l)
	}
	if fi, err := os.Stat(filepath.Join(got.top(), "n/x.txt")); err != nil || !fi.ModTime().Equal(when) {
		t.Errorf("%v %v", fi.ModTime(), err)
	}
	for line, want := range map[string]string{
		"ADD URL/no /": "ADD failed: failed to GET URL/no with status 404 Not Found: gone", "ADD URL/ /x/": "ADD failed: cannot determine filename for source URL/",
		"ADD --checksum=sha256:00 URL/y /": "ADD failed: digest mismatch " + sum + ": sha256:00",
	} {
		got := w.try("FROM bb\n"+line, nil, func(r *brig.BuildRequest) { replace(t, r, srv.URL) })
		if want = strings.ReplaceAll(want, "URL", srv.URL); got.err == nil || got.err.Error() != want {
			t.Errorf("%s: %v, want %s", line, got.err, want)
		}
	}
}

func TestAddGit(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for _, argv := range [][]string{
		{"git", "init", "-q", "-b", "main", "src"}, {"sh", "-c", "mkdir src/sub && echo 1 >src/sub/f && echo 2 >src/g"}, {"git", "-C", "src", "add", "."},
		{"git", "-C", "src", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", "x"}, {"git", "clone", "-q", "--bare", "src", "x.git"},
		{"git", "-C", "x.git", "update-server-info"},
	} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
			t.Skip("no git")
		} else if err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	got := w.try("FROM bb\nADD URL/x.git#main:sub /n\nADD --keep-git-dir=true URL/x.git /m/", nil, func(r *brig.BuildRequest) { replace(t, r, srv.URL) }).ok()
	if l := got.list("n"); l != "/n drwxr-xr-x 0:0\n"+`/n/f -rw-r--r-- 0:0 "1\n"` {
		t.Error(l)
	}
	if _, err := os.Stat(filepath.Join(got.top(), "m/.git/HEAD")); err != nil {
		t.Error(err)
	}
}

// replace puts a server's address into a Dockerfile.
func replace(t *testing.T, r *brig.BuildRequest, url string) {
	t.Helper()
	at := filepath.Join(r.Context, "Dockerfile")
	b, err := os.ReadFile(at)
	if err == nil {
		err = os.WriteFile(at, bytes.ReplaceAll(b, []byte("URL"), []byte(url)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSum is dockerd's hash of the same file, as its history has it.
func TestSum(t *testing.T) {
	x := &summer{}
	x.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 3})
	x.Write([]byte("hi\n"))
	if got, want := x.end()[0], "3fe3cedb10952b626a6d59d23fa934731aa533e2769623feeeed546c83cdf9f6"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
