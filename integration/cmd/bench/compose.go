package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// writeProject makes the project of composeTasks: two services of an image that is there, one of which waits for the other's start and publishes
// a port, in a network of the project's own.
func writeProject(at place) error {
	if err := os.Mkdir(at.project, 0o700); err != nil {
		return err
	}
	// Nothing is to wait for the programs in the containers.
	text := "services:\n" +
		"  store: {image: \"" + at.ref("busybox") + "\", command: [sleep, \"600\"], stop_signal: KILL}\n" +
		"  web: {image: \"" + at.ref("busybox") + "\", command: [sleep, \"600\"], stop_signal: KILL, depends_on: [store], ports: [\"80\"]}\n"
	return os.WriteFile(filepath.Join(at.project, "compose.yaml"), []byte(text), 0o600)
}

// compose is docker compose in the project's folder. It has a configuration of its own, so that no other command looks for plugins.
func compose(at place, args ...string) step {
	return func(ctx context.Context, s *server) error {
		cli := s.cli
		cli.Config = at.config
		if r := cli.Run(ctx, nil, append([]string{"compose", "--project-directory", at.project, "--project-name", container}, args...)...); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	}
}

// composeTasks compare with dockerd alone: docker compose is not made for podman.
func composeTasks(at place) []task {
	up, down := compose(at, "up", "-d"), compose(at, "down")
	out := []task{
		{name: "compose up -d of two services", do: up, after: down},
		{name: "compose down of two services", before: up, do: down},
		{name: "compose up -d of two that run", fill: up, do: up, end: down},
	}
	for i := range out {
		out[i].image, out[i].setup = "busybox", docker("pull", "-q", at.ref("busybox"))
		out[i].alone, out[i].only = compose(at, "version"), []string{"brigd", "dockerd"}
	}
	return out
}
