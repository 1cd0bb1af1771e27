package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// patience bounds each command: a hang is a failure with output, not a dead suite.
var patience = testbed.Slow(90 * time.Second)

// image is the name of a test image at the registry.
func image(name string) string { return bed.reg + "/" + name }

var counter atomic.Int64

// fresh is a name that no other test uses.
func fresh(prefix string) string { return fmt.Sprintf("%s%d", prefix, counter.Add(1)) }

// docker runs the docker command on the suite's server; any exit code will do.
func docker(t testing.TB, args ...string) testbed.Result { return dockerIn(t, "", args...) }

func dockerIn(t testing.TB, stdin string, args ...string) testbed.Result {
	t.Helper()
	return dockerOn(t, bed.cli, strings.NewReader(stdin), args...)
}

func dockerOn(t testing.TB, cli testbed.CLI, stdin io.Reader, args ...string) testbed.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	r := cli.Run(ctx, stdin, args...)
	if ctx.Err() != nil {
		t.Fatalf("took longer than %v: %s", patience, r)
	}
	return r
}

// ok runs docker, wants exit code 0, and returns what it printed without the last newline.
func ok(t testing.TB, args ...string) string {
	t.Helper()
	r := docker(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return strings.TrimRight(r.Out, "\n")
}

// fails runs docker and wants this exit code, and words (a regular expression) on stderr.
func fails(t testing.TB, code int, words string, args ...string) {
	t.Helper()
	r := docker(t, args...)
	if r.Code != code || !regexp.MustCompile(words).MatchString(r.Err) {
		t.Errorf("%s\nwant exit code %d and %q on stderr", r, code, words)
	}
}

// equal compares what was got with what was wanted.
func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// match wants got to match the regular expression want.
func match(t testing.TB, what, got, want string) {
	t.Helper()
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("%s: got %q, want a match of %q", what, got, want)
	}
}

// container runs `docker run -d` with args, and removes the container after the test. It returns the full id.
func container(t testing.TB, args ...string) string {
	t.Helper()
	return made(t, ok(t, append([]string{"run", "-d"}, args...)...))
}

// made has the container removed after the test.
func made(t testing.TB, id string) string {
	t.Cleanup(func() { docker(t, "rm", "-f", "-v", id) })
	match(t, "container id", id, `^[0-9a-f]{64}$`)
	return id
}

// inspect is one value of docker inspect.
func inspect(t testing.TB, object, format string) string {
	t.Helper()
	return ok(t, "inspect", "--format", format, object)
}

// eventually tries until the condition holds; what it last said goes into the failure.
func eventually(t testing.TB, what string, try func() (bool, string)) {
	t.Helper()
	limit := testbed.Slow(30 * time.Second)
	deadline := time.Now().Add(limit)
	for {
		done, said := try()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v; last: %s", what, limit, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// logged waits until the container's log has the text.
func logged(t testing.TB, id, text string) {
	t.Helper()
	eventually(t, "log of "+id+" with "+text, func() (bool, string) {
		out := ok(t, "logs", id)
		return strings.Contains(out, text), out
	})
}

// tempFile writes a file that the test's end removes.
func tempFile(t testing.TB, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// own skips a test that must end or start the server.
func own(t testing.TB) {
	t.Helper()
	if !bed.server.Owned {
		t.Skip("needs a server of the suite's own, and BRIG_TEST_HOST names another")
	}
}

// offered skips a test of what the host's system doesn't have, or has in another way: hostDiffers says why.
func offered(t testing.TB, what string) {
	t.Helper()
	if reason, differs := hostDiffers[what]; differs {
		t.Skip(reason)
	}
}

// dockerdDiffers names what the suite asks of brig and Debian's dockerd 20.10 does not do, and why.
var dockerdDiffers = map[string]string{
	"run init":                      "Debian's docker.io only recommends tini, so docker-init may be missing",
	"run privileged":                "dockerd fails where the daemon itself lacks a capability; brig starts the container reduced, with a warning",
	"exec privileged":               "as run privileged",
	"run mac-address":               "clients from 25 on ask for addresses per network, which API 1.44 brought",
	"run network container and mac": "as run mac-address",
	"volume subpath":                "API 1.45 brought it",
	"commit signal":                 "dockerd 20.10 does not take STOPSIGNAL as a change",
	"import platform":               "dockerd 20.10 takes nothing but the system of an import's platform",
	"log rotation":                  "a follower of dockerd's misses lines while the log is rotated faster than it reads",
	"zstd":                          "dockerd 20.10 cannot read zstd layers; Docker 23 and later can",
}

func regexpQuote(s string) string { return regexp.QuoteMeta(s) }
