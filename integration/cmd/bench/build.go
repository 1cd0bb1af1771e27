package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const built = "brig-bench-built"

// writeBuild writes the context of the builds: a Dockerfile of five steps and a hundred small files.
func writeBuild(at place) error {
	src := filepath.Join(at.build, "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		return err
	}
	var errs []error
	for i := range 100 {
		errs = append(errs, os.WriteFile(filepath.Join(src, fmt.Sprint(i)), fmt.Appendf(nil, "file %d\n", i), 0o644))
	}
	errs = append(errs, os.WriteFile(filepath.Join(at.build, "Dockerfile"), []byte("FROM "+at.ref("busybox")+`
WORKDIR /src
COPY src .
RUN cat * >/all
RUN wc -l /all >/lines
CMD ["cat", "/lines"]
`), 0o644))
	return errors.Join(errs...)
}

// buildTasks build an image by a Dockerfile. podman has no part in it: it builds by another program's rules.
func buildTasks(at place) []task {
	build := func(flags ...string) step {
		return docker(append(append([]string{"build", "-t", built}, flags...), at.build)...)
	}
	out := []task{
		{name: "build of 5 steps without cache", do: build("--no-cache"), after: docker("rmi", built)},
		{name: "build of 5 steps, all cached", do: build(), fill: build(), end: docker("rmi", built)},
	}
	for i := range out {
		out[i].image, out[i].only, out[i].alone = "busybox", []string{"brigd", "dockerd"}, docker("--version")
		out[i].setup = docker("pull", "-q", at.ref("busybox"))
	}
	return out
}
