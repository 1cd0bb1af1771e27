package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// steps is a Dockerfile whose layers have all kinds of files.
func steps() string {
	return "FROM " + image("busybox") + ` AS a
RUN mkdir -p /d/e && echo x >/d/e/x && ln /d/e/x /d/hard && ln -s hard /d/soft && mkfifo /d/p && chmod 4755 /d/e/x && chown -R 5:6 /d/e
FROM ` + image("layers") + `
COPY --from=a /d /d
COPY a /
RUN rm -rf /home /etc/passwd; echo y >/y; touch /d/e/x
WORKDIR /w
ENV A=b
USER 5
`
}

// An image that was built can be saved as often as one likes: the bytes are the same each time, also after a restart and after gc.
func TestBuildSavesTheSame(t *testing.T) {
	s, cli := daemon(t)
	dir := buildDir(t, "a", "a\n", "Dockerfile", steps())
	buildOf(t, cli, dir, "-t", "saved")
	save := func() []byte {
		file := filepath.Join(t.TempDir(), "tar")
		done(t, cli, "save", "-o", file, "saved")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := save()
	equal(t, "saved again", bytes.Equal(first, save()), true)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	equal(t, "after a restart", bytes.Equal(first, save()), true)
	brigOn(t, s.Host, "gc")
	done(t, cli, "builder", "prune", "-af")
	equal(t, "after a prune", bytes.Equal(first, save()), true)
	healthy(t, s.Host)
	id := done(t, cli, "image", "inspect", "-f", "{{.Id}}", "saved")
	done(t, cli, "rmi", "saved")
	file := filepath.Join(t.TempDir(), "tar")
	if err := os.WriteFile(file, first, 0o600); err != nil {
		t.Fatal(err)
	}
	done(t, cli, "load", "-q", "-i", file)
	equal(t, "loaded", done(t, cli, "image", "inspect", "-f", "{{.Id}}", "saved"), id)
	equal(t, "runs", done(t, cli, "run", "--rm", "saved", "sh", "-c", "id -u; pwd; cat /y /d/soft; ls /home 2>&1 | wc -l"), "5\n/w\ny\nx\n1")
}

// With SOURCE_DATE_EPOCH two servers that know nothing of each other make the same image.
func TestBuildReproducible(t *testing.T) {
	dir := buildDir(t, "a", "a\n", "Dockerfile", steps())
	var first *savedImage
	for i := range 2 {
		_, cli := daemon(t)
		id, _ := buildOf(t, cli, dir, "-t", "repro", "--build-arg", "SOURCE_DATE_EPOCH=1600000000")
		img := saved(t, cli, "repro")
		if first == nil {
			first = img
			continue
		}
		equal(t, fmt.Sprintf("config of server %d", i), string(img.raw), string(first.raw))
		for n := range img.layers {
			equal(t, fmt.Sprintf("layer %d", n), bytes.Equal(img.layers[n], first.layers[n]), true)
		}
		equal(t, "created", done(t, cli, "image", "inspect", "-f", "{{.Created}}", id), "2020-09-13T12:26:40Z")
	}
}

// What was built can be pushed, and pulled by another server as the same image.
func TestBuildPush(t *testing.T) {
	dir := buildDir(t, "a", "a\n", "Dockerfile", steps())
	ref := bed.reg + "/built/" + fresh("p") + ":1"
	id, _ := buildOf(t, bed.cli, dir, "-t", ref)
	ok(t, "push", "-q", ref)
	ok(t, "rmi", ref)
	ok(t, "pull", "-q", ref)
	equal(t, "pulled", inspect(t, ref, "{{.Id}}"), id)
	equal(t, "runs", ok(t, "run", "--rm", ref, "cat", "/y", "/a"), "y\na")
	ok(t, "rmi", ref)
	var other testbed.CLI
	if _, other = daemon(t); other.Host != "" {
		done(t, other, "pull", "-q", ref)
		equal(t, "runs on another", done(t, other, "run", "--rm", ref, "cat", "/y", "/a"), "y\na")
		done(t, other, "rmi", ref)
	}
}

// The containers of RUN go with their step; that of one that failed with --force-rm.
func TestBuildRemovesItsContainers(t *testing.T) {
	dir := buildDir(t, "Dockerfile", "FROM "+image("busybox")+"\nLABEL a="+fresh("o")+"\nRUN echo x >/x\n")
	failing := buildDir(t, "Dockerfile", "FROM "+image("busybox")+"\nLABEL a="+fresh("o")+"\nRUN echo x >/x; exit 9\n")
	count := func() int { return len(strings.Fields(ok(t, "ps", "-aq", "--filter", "ancestor="+image("busybox")))) }
	before := count()
	ok(t, "build", dir)
	equal(t, "containers after a build", count(), before)
	fails(t, 9, "returned a non-zero code: 9", "build", "--force-rm", failing)
	equal(t, "containers after one that failed, with --force-rm", count(), before)
}
