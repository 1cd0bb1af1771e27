package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// sleeping is a context whose RUN says that it has started, and goes on for ten minutes.
func sleeping(t testing.TB) string {
	return buildDir(t, "a", "a\n", "Dockerfile", "FROM "+image("busybox")+"\nRUN echo before >/before\nCOPY a /a\nRUN echo started; sleep 600\n")
}

// until reads a stream up to a text.
func until(t testing.TB, r io.Reader, text string) {
	t.Helper()
	var got bytes.Buffer
	b := make([]byte, 4096)
	for !strings.Contains(got.String(), text) {
		n, err := r.Read(b)
		got.Write(b[:n])
		if err != nil {
			t.Fatalf("%v after %s", err, got.String())
		}
	}
}

// nothingLeft waits until a build that came to a bad end has left nothing on the host.
func nothingLeft(t *testing.T, s *testbed.Server, cli testbed.CLI) {
	t.Helper()
	always := regexp.MustCompile(`^mount .*/(store/mnt|netns)$`) // brigd's own, as long as the host is up
	eventually(t, "nothing is left of the build", func() (bool, string) {
		left, err := s.Leftovers(false)
		if err != nil {
			t.Fatal(err)
		}
		left = slices.DeleteFunc(left, always.MatchString)
		links, _, err := s.Links()
		if err != nil {
			t.Fatal(err)
		}
		containers := done(t, cli, "ps", "-aq")
		says := fmt.Sprintf("left %q, %d links, %d root file systems, containers %q", left, links, s.StorageLeft(), containers)
		return len(left) == 0 && links == 0 && s.StorageLeft() == 0 && containers == "", says
	})
}

// A client that vanishes in the middle of a RUN takes the build with it.
func TestBuildVanishingClient(t *testing.T) {
	s, cli := daemon(t)
	dir := sleeping(t)
	t.Run("docker build killed", func(t *testing.T) {
		cmd := cli.Command(bed.ctx, "build", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, out, "\nstarted\n")
		cmd.Process.Kill()
		cmd.Wait()
		nothingLeft(t, s, cli)
	})
	t.Run("docker build interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(bed.ctx)
		cmd := cli.Command(ctx, "build", "--no-cache", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, out, "\nstarted\n")
		cancel()
		cmd.Wait()
		nothingLeft(t, s, cli)
	})
	t.Run("connection closed", func(t *testing.T) {
		c := postBuild(t, s, "", contextTar(t, dir), -1)
		until(t, c, `"started\n"`)
		c.Close()
		nothingLeft(t, s, cli)
	})
	t.Run("connection closed at any moment", func(t *testing.T) {
		body := contextTar(t, buildDir(t, "Dockerfile", strings.ReplaceAll("FROM IMG AS a\nRUN sleep 600\nFROM IMG AS b\nRUN sleep 601\nFROM IMG\nCOPY --from=a /x /x\nCOPY --from=b /y /y\n", "IMG", image("busybox"))))
		for after := time.Duration(0); after < 60*time.Millisecond; after += 2 * time.Millisecond {
			c := postBuild(t, s, "", body, -1)
			time.Sleep(after)
			c.Close()
		}
		nothingLeft(t, s, cli)
	})
	t.Run("in the middle of the context", func(t *testing.T) {
		body := contextTar(t, dir)
		c := postBuild(t, s, "", body[:len(body)/2], len(body))
		c.Close()
		nothingLeft(t, s, cli)
	})
	t.Run("parallel stages", func(t *testing.T) {
		dir := buildDir(t, "Dockerfile", strings.ReplaceAll("FROM IMG AS a\nRUN echo started; sleep 600\nFROM IMG AS b\nRUN sleep 601\nFROM IMG\nCOPY --from=a /x /x\nCOPY --from=b /y /y\n", "IMG", image("busybox")))
		c := postBuild(t, s, "", contextTar(t, dir), -1)
		until(t, c, `"started\n"`)
		c.Close()
		nothingLeft(t, s, cli)
	})
	t.Run("a stage fails beside another", func(t *testing.T) {
		dir := buildDir(t, "Dockerfile", strings.ReplaceAll("FROM IMG AS a\nRUN sleep 1; exit 7\nFROM IMG AS b\nRUN sleep 601\nFROM IMG\nCOPY --from=a /x /x\nCOPY --from=b /y /y\n", "IMG", image("busybox")))
		if r := dockerOn(t, cli, nil, "build", "--force-rm", dir); r.Code != 7 {
			t.Error(r)
		}
		nothingLeft(t, s, cli)
	})
	rewrite(t, dir, "Dockerfile", "FROM "+image("busybox")+"\nRUN echo before >/before\nCOPY a /a\nRUN true\n")
	_, cached := buildOf(t, cli, dir)
	equal(t, "what was done before the RUN is in the cache", cached, "cc-")
}

// postBuild sends a build over a connection of its own and returns that. size is what the request says that the body has; -1: what it has.
func postBuild(t testing.TB, s *testbed.Server, query string, body []byte, size int) net.Conn {
	t.Helper()
	if size < 0 {
		size = len(body)
	}
	c, err := net.Dial("unix", strings.TrimPrefix(s.Host, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "POST /v1.41/build?%s HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n%s", query, size, body); err != nil {
		t.Fatal(err)
	}
	return c
}

// brigd, killed in the middle of a RUN, takes the build away when it starts again.
func TestBuildKilledServer(t *testing.T) {
	s, cli := daemon(t)
	dir := sleeping(t)
	c := postBuild(t, s, "", contextTar(t, dir), -1)
	until(t, c, `"started\n"`)
	s.Kill()
	start(t, s)
	nothingLeft(t, s, cli)
	healthy(t, s.Host)
	rewrite(t, dir, "Dockerfile", "FROM "+image("busybox")+"\nRUN echo before >/before\nCOPY a /a\nRUN cat /before /a\n")
	_, cached := buildOf(t, cli, dir, "-t", "after")
	match(t, "cached", cached, "^(cc-|c--|---)$") // what no image has is recorded a little later
	equal(t, "what was built", done(t, cli, "run", "--rm", "after", "cat", "/before", "/a"), "before\na")
	done(t, cli, "rmi", "after")
}

// 20 builds at once: of the same Dockerfile, of such that begin alike, and without the cache.
func TestBuildParallel(t *testing.T) {
	mark := fresh("parallel")
	const n = 20
	ids := make([]string, n)
	var all sync.WaitGroup
	failed := make(chan error, n)
	for i := range n {
		kind := min(i%4, 2) // half of them alike; those without the cache would take the place of the others in it
		last := "same"
		if kind == 0 {
			last = fmt.Sprint(i)
		}
		dir := buildDir(t, "a", "a\n", "z", last+"\n", "Dockerfile", "FROM "+image("busybox")+` AS one
LABEL mark=`+mark+fmt.Sprint(kind)+`
RUN echo one >/one; sleep 0.2
FROM `+image("busybox")+` AS two
LABEL mark=`+mark+fmt.Sprint(kind)+`
COPY a /a
RUN cat /a >/two; sleep 0.2
FROM two
COPY --from=one /one /one
COPY z /z
RUN cat /one /two /z >/all
`)
		args := []string{"build", "-q", "-t", fmt.Sprintf("%s:%d", mark, i)}
		if kind == 1 {
			args = append(args, "--no-cache")
		}
		all.Go(func() {
			r := bed.cli.Run(bed.ctx, nil, append(args, dir)...)
			if r.Code != 0 {
				failed <- errors.New(r.String())
				return
			}
			ids[i] = strings.TrimSpace(r.Out)
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	for i := range n {
		want := "one\na\nsame"
		if i%4 == 0 {
			want = fmt.Sprintf("one\na\n%d", i)
		}
		equal(t, fmt.Sprintf("image %d", i), ok(t, "run", "--rm", fmt.Sprintf("%s:%d", mark, i), "cat", "/all"), want)
		if i%4 >= 2 && ids[i] != ids[2] && bed.server.Owned {
			t.Errorf("image %d is %s, and %d, of the same Dockerfile, %s", i, ids[i], 2, ids[2])
		}
	}
	for i := range n {
		docker(t, "rmi", "-f", fmt.Sprintf("%s:%d", mark, i))
	}
}

// A container that a failed RUN has left, and from whose files the cache has gone, keeps its own; brigd waits for its removal without doing anything.
func TestBuildFailedAndPruned(t *testing.T) {
	s, cli := daemon(t)
	dir := buildDir(t, "Dockerfile", base()+"RUN echo x >/x\nRUN echo y >/y; exit 3\n")
	if r := dockerOn(t, cli, nil, "build", dir); r.Code != 3 {
		t.Fatal(r)
	}
	done(t, cli, "builder", "prune", "-af")
	id := done(t, cli, "ps", "-aq")
	files := done(t, cli, "diff", id)
	equal(t, "its files", files, "A /y")
	var before int
	eventually(t, "brigd rests", func() (bool, string) {
		was := before
		before = cpuTicks(t, s.Pid())
		time.Sleep(testbed.Slow(200 * time.Millisecond))
		return before-was <= 1, fmt.Sprintf("%d ticks in 0.2 s", before-was)
	})
	done(t, cli, "rm", id)
	nothingLeft(t, s, cli)
	eventually(t, "the layers of a build go with the container that stood on them", func() (bool, string) {
		out, _ := brigOn(t, s.Host, "gc", "--dry-run")
		return strings.Contains(out, "would remove 0 layers"), out
	})
}
