// Mobyclient does with moby's Go client what programs do with it, on the server of DOCKER_HOST: mobyclient IMAGE. It ends with an error at the
// first answer that is not what it should be.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "mobyclient:", err)
		os.Exit(1)
	}
}

const label = "mobyclient"

func run(ctx context.Context, image string) (err error) {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer c.Close()
	ping, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil || ping.OSType != "linux" && ping.OSType != "freebsd" {
		return fmt.Errorf("ping: %+v, %w", ping, err)
	}
	fmt.Println("API", c.ClientVersion())
	pulled, err := c.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := pulled.Wait(ctx); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	var nets []string
	for _, name := range []string{label + "-a", label + "-b"} {
		n, err := c.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge"})
		if err != nil {
			return fmt.Errorf("create network: %w", err)
		}
		defer func() {
			_, e := c.NetworkRemove(context.WithoutCancel(ctx), n.ID, client.NetworkRemoveOptions{})
			err = errors.Join(err, e)
		}()
		nets = append(nets, name)
	}
	listening, stop := context.WithCancel(ctx)
	defer stop()
	heard := c.Events(listening, client.EventsListOptions{Filters: client.Filters{}.Add("label", label+"=1").Add("event", "start", "die", "destroy")})
	id, err := start(ctx, c, image, nets)
	if id != "" {
		defer func() { c.ContainerRemove(context.WithoutCancel(ctx), id, client.ContainerRemoveOptions{Force: true}) }()
	}
	if err != nil {
		return err
	}
	if err := inside(ctx, c, id); err != nil {
		return err
	}
	if err := end(ctx, c, id); err != nil {
		return err
	}
	for _, want := range []string{"start", "die", "destroy"} {
		select {
		case m := <-heard.Messages:
			if string(m.Action) != want || m.Actor.ID != id {
				return fmt.Errorf("event %s of %s, want %s of %s", m.Action, m.Actor.ID, want, id)
			}
		case err := <-heard.Err:
			return fmt.Errorf("events: %w", err)
		}
	}
	return nil
}

// start creates a container in both networks, and starts it. Below API 1.44 a container is created in one network, and connected to others.
func start(ctx context.Context, c *client.Client, image string, nets []string) (string, error) {
	eps := map[string]*network.EndpointSettings{}
	for _, n := range nets {
		eps[n] = &network.EndpointSettings{Aliases: []string{"alias-" + n}}
	}
	then := map[string]*network.EndpointSettings{}
	if versions.LessThan(c.ClientVersion(), "1.44") {
		then[nets[1]] = eps[nets[1]]
		delete(eps, nets[1])
	}
	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Name: label, Config: &container.Config{Image: image, Labels: map[string]string{label: "1"},
		Cmd: []string{"sh", "-c", `trap "exit 5" TERM; echo out; echo err >&2; while :; do sleep 0.1; done`}},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(nets[0])}, NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: eps}})
	if err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	for n, ep := range then {
		if _, err := c.NetworkConnect(ctx, n, client.NetworkConnectOptions{Container: made.ID, EndpointConfig: ep}); err != nil {
			return made.ID, fmt.Errorf("connect to %s: %w", n, err)
		}
	}
	if _, err := c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		return made.ID, fmt.Errorf("start: %w", err)
	}
	list, err := c.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("label", label+"=1").Add("status", "running")})
	if err != nil || len(list.Items) != 1 || list.Items[0].ID != made.ID || len(list.Items[0].NetworkSettings.Networks) != 2 {
		return made.ID, fmt.Errorf("list: %+v, %w", list, err)
	}
	return made.ID, nil
}

// inside looks at the container with an exec, which resolves its alias, and at its log.
func inside(ctx context.Context, c *client.Client, id string) error {
	made, err := c.ExecCreate(ctx, id, client.ExecCreateOptions{AttachStdin: true, AttachStdout: true, AttachStderr: true,
		Cmd: []string{"sh", "-c", "cat; ping -c 1 -W 5 -q alias-" + label + "-b >/dev/null || echo no alias; exit 3"}})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	at, err := c.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return fmt.Errorf("attach to exec: %w", err)
	}
	defer at.Close()
	if _, err := io.WriteString(at.Conn, "through\n"); err != nil {
		return err
	}
	if err := at.CloseWrite(); err != nil {
		return err
	}
	var out, errOut bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errOut, at.Reader); err != nil || out.String() != "through\n" || errOut.Len() > 0 {
		return fmt.Errorf("exec gave %q and %q, %v", out.String(), errOut.String(), err)
	}
	done, err := c.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil || done.Running || done.ExitCode != 3 {
		return fmt.Errorf("exec: %+v, %v", done, err)
	}
	logs, err := c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer logs.Close()
	out.Reset()
	if _, err := stdcopy.StdCopy(&out, &errOut, logs); err != nil || out.String() != "out\n" || errOut.String() != "err\n" {
		return fmt.Errorf("logs gave %q and %q, %v", out.String(), errOut.String(), err)
	}
	return nil
}

// end stops the container, waits for it and removes it.
func end(ctx context.Context, c *client.Client, id string) error {
	wait := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.ContainerStop(ctx, id, client.ContainerStopOptions{}); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	select {
	case r := <-wait.Result:
		if r.StatusCode != 5 {
			return fmt.Errorf("exit code %d, want 5", r.StatusCode)
		}
	case err := <-wait.Error:
		return fmt.Errorf("wait: %w", err)
	}
	_, err := c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
	return err
}
