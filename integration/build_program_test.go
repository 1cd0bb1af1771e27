package integration

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

const goServer = `package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s, uid %d\n", r.URL.Path, os.Getenv("GREETING"), os.Getuid())
	})
	log.Println("ready")
	log.Fatal(http.ListenAndServe(":8080", nil))
}
`

// A real program: a server in Go, compiled in one stage, run from scratch in another, and asked over its published port. The Go is the host's.
func TestBuildGoServer(t *testing.T) {
	goTree(t, "bt/go")
	dir := buildDir(t, "go.mod", "module server\n\ngo 1.21\n", "main.go", goServer, "Dockerfile", `FROM bt/go AS build
COPY --from=`+image("busybox")+` /bin /bin
ENV PATH=/usr/local/go/bin:/bin HOME=/root CGO_ENABLED=0 GOTOOLCHAIN=local
WORKDIR /tmp
WORKDIR /src
COPY go.mod ./
RUN go version && go mod verify
COPY *.go ./
RUN --mount=type=cache,target=/root/.cache/go-build go build -trimpath -ldflags=-s -o /server .

FROM scratch
COPY --from=build /server /server
ENV GREETING=scratch
EXPOSE 8080
USER 65534
ENTRYPOINT ["/server"]
`)
	if !bed.server.Owned { // the classic builder has no mounts
		b := strings.Replace(string(readFile(t, filepath.Join(dir, "Dockerfile"))), "--mount=type=cache,target=/root/.cache/go-build ", "", 1)
		rewrite(t, dir, "Dockerfile", b)
	}
	serve(t, dir, "from scratch")
	began := time.Now()
	rewrite(t, dir, "main.go", strings.Replace(goServer, "%s from %s", "%s again from %s", 1))
	serve(t, dir, "again from scratch")
	t.Logf("the second build, with the compiler's cache, and a run: %v", time.Since(began))
}

// goTree imports what of the host's Go it takes to compile a program.
func goTree(t *testing.T, ref string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no Go on this host:", err)
	}
	pack := exec.CommandContext(bed.ctx, "tar", "-C", strings.TrimSpace(string(root)), "--exclude=./src/cmd", "--exclude=./test", "--exclude=./api", "--exclude=*_test.go",
		"--transform=s,^,usr/local/go/,", "--owner=0", "--group=0", "-cf", "-", "./bin/go", "./src", "./pkg/include", "./pkg/tool", "./VERSION", "./go.env")
	tar, err := pack.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.Start(); err != nil {
		t.Fatal(err)
	}
	r := dockerOn(t, bed.cli, tar, "import", "-", ref)
	if err := pack.Wait(); err != nil || r.Code != 0 {
		t.Fatal(err, r)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", ref) })
}

// serve builds the server, runs it and asks it.
func serve(t *testing.T, dir, says string) {
	t.Helper()
	cmd := bed.cli.Command(bed.ctx, "build", "-t", "bt/server", dir)
	timer := time.AfterFunc(testbed.Slow(5*time.Minute), func() { cmd.Process.Kill() })
	defer timer.Stop()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, out)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", "bt/server") })
	id := container(t, "-p", "127.0.0.1::8080", "bt/server")
	addr := ok(t, "port", id, "8080/tcp")
	var body string
	eventually(t, "an answer of the server", func() (bool, string) {
		resp, err := http.Get("http://" + addr + "/some/path")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		body = string(b)
		return err == nil, body
	})
	equal(t, "answer", body, "/some/path "+says+", uid 65534\n")
	docker(t, "rm", "-f", id)
}
