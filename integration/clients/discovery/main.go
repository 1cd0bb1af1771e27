// Discovery does what monitoring does on the server of DOCKER_HOST: it finds containers with Prometheus' own discovery, as docker_sd_configs has it, and
// follows the events with go-dockerclient, the library of many tools that configure proxies. discovery LABEL prints, until its input ends,
//
//	up CONTAINER NETWORK      a target has been found, and has answered a request at its address
//	down CONTAINER NETWORK    it is not there any more
//	event ACTION CONTAINER    what happened to a container with the label
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	docker "github.com/fsouza/go-dockerclient"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/moby"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the program
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "discovery:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, label string) error {
	client, err := docker.NewClientFromEnv()
	if err != nil {
		return err
	}
	events := make(chan *docker.APIEvents, 100)
	if err := client.AddEventListenerWithOptions(docker.EventsOptions{Filters: map[string][]string{"type": {"container"}, "label": {label}}}, events); err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	defer client.RemoveEventListener(events)
	found, wait, err := discover(ctx, label)
	if err != nil {
		return err
	}
	defer wait()
	up := map[string]string{} // addresses of targets
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if e == nil {
				return fmt.Errorf("the events have ended")
			}
			fmt.Println("event", e.Action, e.Actor.Attributes["name"])
		case groups := <-found:
			compare(up, groups["docker"])
		}
	}
}

// discover starts Prometheus' discovery; wait returns when it has ended, after ctx.
func discover(ctx context.Context, label string) (_ <-chan map[string][]*targetgroup.Group, wait func(), err error) {
	registry := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		return nil, nil, err
	}
	m := discovery.NewManager(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)), registry, metrics, discovery.Updatert(100*time.Millisecond))
	if m == nil {
		return nil, nil, fmt.Errorf("no manager of discoveries")
	}
	c := moby.DefaultDockerSDConfig
	c.Host, c.RefreshInterval, c.Filters = os.Getenv("DOCKER_HOST"), model.Duration(time.Second), []moby.Filter{{Name: "label", Values: []string{label}}}
	if err := m.ApplyConfig(map[string]discovery.Configs{"docker": {&c}}); err != nil {
		return nil, nil, err
	}
	var running sync.WaitGroup
	running.Go(func() { m.Run() })
	return m.SyncCh(), running.Wait, nil
}

// compare prints what has changed. A target that doesn't answer is tried again with the next list.
func compare(up map[string]string, groups []*targetgroup.Group) {
	now := map[string]string{}
	for _, g := range groups {
		for _, t := range g.Targets {
			name := strings.TrimPrefix(string(t["__meta_docker_container_name"]), "/") + " " + string(t["__meta_docker_network_name"])
			now[name] = string(t[model.AddressLabel])
		}
	}
	for name := range up {
		if now[name] != up[name] {
			fmt.Println("down", name)
			delete(up, name)
		}
	}
	client := http.Client{Timeout: 5 * time.Second}
	for name, addr := range now {
		if up[name] != "" {
			continue
		}
		resp, err := client.Get("http://" + addr + "/")
		if err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			continue
		}
		resp.Body.Close()
		fmt.Println("up", name)
		up[name] = addr
	}
}
