package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A step is something done on one server.
type step func(ctx context.Context, s *server) error

// A task is what is timed, do, and what has to be done before and after it each time, and before and after all of it.
type task struct {
	name                string
	image               string // that it uses, by its name in the registry
	size                size
	setup, before, do   step
	after, end          step
	fill                step     // done once setup is
	archiver, archiveOf string   // load: the server that writes the archive, and of which image
	archive             string   // its path
	alone               step     // what the command takes by itself, which is taken off; nil: nothing is
	bytes               int64    // that are carried; 0: it is the time that matters
	only                []string // servers; nil: all
}

// size says how often a task is timed.
type size int

const (
	short  size = iota // milliseconds
	middle             // seconds
	long               // tens of seconds
)

// docker is a docker command that must succeed.
func docker(args ...string) step {
	return func(ctx context.Context, s *server) error {
		if r := s.cli.Run(ctx, nil, args...); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	}
}

// absent removes an image if it is there.
func absent(image string) step {
	return func(ctx context.Context, s *server) error {
		if s.cli.Run(ctx, nil, "image", "inspect", image).Code != 0 {
			return nil
		}
		return docker("rmi", image)(ctx, s)
	}
}

func remove(path string) step {
	return func(context.Context, *server) error { return os.Remove(path) }
}

// place is where the tasks find things.
type place struct {
	registry, archives string // HOST:PORT, and a folder for files
	project, config    string // compose.go's: the project's folder, and that of the docker command's configuration
	build              string // build.go's: the context
	near               *testbed.Neighbour
}

func (p place) ref(image string) string { return p.registry + "/" + image + ":latest" }

// tasks lists what is compared.
func tasks(at place) []task {
	out := containerTasks(at.ref("busybox"))
	for _, i := range []struct {
		name, says string
		size       size
	}{{"debian", "debian", middle}, {"many", "65 layers", middle}, {"large", "large", long}} {
		ref := at.ref(i.name)
		out = append(out, task{name: "pull " + i.says, image: i.name, size: i.size, setup: absent(ref), do: docker("pull", "-q", ref), after: docker("rmi", ref)})
	}
	for _, i := range []struct {
		name string
		size size
	}{{"debian", middle}, {"large", long}} {
		file, ref := filepath.Join(at.archives, "saved.tar"), at.ref(i.name)
		out = append(out, task{name: "save " + i.name, image: i.name, size: i.size, setup: docker("pull", "-q", ref), do: docker("save", "-o", file, ref),
			after: remove(file), end: docker("rmi", ref)})
		for _, by := range []string{"brigd", "dockerd"} {
			file := filepath.Join(at.archives, i.name+"-"+by+".tar")
			out = append(out, task{name: "load " + i.name + " as saved by " + by, image: i.name, size: i.size, setup: absent(ref), do: docker("load", "-q", "-i", file),
				after: docker("rmi", ref), archiver: by, archiveOf: ref, archive: file})
		}
	}
	for i := range out {
		out[i].alone = docker("--version")
	}
	return slices.Concat(out, apiTasks(at.ref("busybox")), buildTasks(at), composeTasks(at), transferTasks(at))
}

const container = "brig-bench"

func containerTasks(busybox string) []task {
	create := docker("create", "--name", container, busybox, "sleep", "600")
	running := docker("run", "-d", "--name", container, busybox, "sleep", "600")
	rm := docker("rm", "-f", container)
	out := []task{
		{name: "run --rm IMAGE true", do: docker("run", "--rm", busybox, "true")},
		{name: "run --rm --network none IMAGE true", do: docker("run", "--rm", "--network", "none", busybox, "true")},
		{name: "create", do: create, after: rm},
		{name: "start", before: create, do: docker("start", container), after: rm},
		{name: "exec true", before: running, do: docker("exec", container, "true"), after: rm},
		{name: "rm -f of a running one", before: running, do: rm},
		{name: "20 run --rm at once", size: middle, do: together(20, docker("run", "--rm", busybox, "true"))},
	}
	for i := range out {
		out[i].image, out[i].setup = "busybox", docker("pull", "-q", busybox)
	}
	return out
}

// together does a step n times at once.
func together(n int, do step) step {
	return func(ctx context.Context, s *server) error {
		var all sync.WaitGroup
		failed := make([]error, n)
		for i := range n {
			all.Go(func() { failed[i] = do(ctx, s) })
		}
		all.Wait()
		return errors.Join(failed...)
	}
}
