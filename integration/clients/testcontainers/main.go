// Testcontainers runs a server in a container with testcontainers-go, as tests of other projects do, and one of an image that it builds, and leaves all to the reaper: testcontainers IMAGE,
// where the image is nginx. It prints the container's ID.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "testcontainers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, image string) error {
	n, err := network.New(ctx)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	c, err := testcontainers.Run(ctx, image, testcontainers.WithExposedPorts("80/tcp"), network.WithNetwork([]string{"web"}, n),
		testcontainers.WithFiles(testcontainers.ContainerFile{HostFilePath: "/etc/hostname", ContainerFilePath: "/usr/share/nginx/html/name", FileMode: 0o644}),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/").WithPort("80/tcp"), wait.ForListeningPort("80/tcp"), wait.ForLog("start worker process"), wait.ForHealthCheck()))
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	at, err := c.Endpoint(ctx, "http")
	if err != nil {
		return err
	}
	resp, err := http.Get(at + "/name")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	want, err := os.ReadFile("/etc/hostname")
	if err != nil {
		return err
	}
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != string(want) {
		return fmt.Errorf("%s gave %q, %v; want %q", at, got, err, want)
	}
	code, out, err := c.Exec(ctx, []string{"wget", "-qO-", "http://web/"})
	if err != nil || code != 0 {
		return fmt.Errorf("exec: %d, %w", code, err)
	}
	if b, err := io.ReadAll(out); err != nil || len(b) == 0 {
		return fmt.Errorf("exec gave %q, %v", b, err)
	}
	if err := build(ctx, image); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	fmt.Println(c.GetContainerID())
	return nil
}

// build runs a container of an image that is built of a Dockerfile, and goes with the container.
func build(ctx context.Context, image string) error {
	dir, err := os.MkdirTemp("", "context-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text := "ARG BASE\nFROM ${BASE}\nARG WORD\nRUN echo $WORD >/said\nCOPY Dockerfile /\nCMD [\"sh\", \"-c\", \"cat /said; sleep 1000\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		return err
	}
	word := "built"
	c, err := testcontainers.Run(ctx, "", testcontainers.WithDockerfile(testcontainers.FromDockerfile{Context: dir, BuildArgs: map[string]*string{"BASE": &image, "WORD": &word}}),
		testcontainers.WithWaitStrategy(wait.ForLog("built\n")))
	if err != nil {
		return err
	}
	return c.Terminate(ctx)
}
