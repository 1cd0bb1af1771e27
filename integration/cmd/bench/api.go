package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/brigd/brig/integration/internal/testbed"
)

// How the rate of requests is measured: over so many connections that stay open, and with so many containers there.
const (
	connections = 4
	listed      = 100
)

// apiTasks speak the API without the docker command.
func apiTasks(busybox string) []task {
	out := []task{{name: "API: create, start, wait, remove", do: apiCycle(busybox)}}
	for _, r := range []struct {
		path     string
		requests int
		many     bool
	}{{"/_ping", 2000, false}, {"/containers/json?all=1", 100, true}, {"/info", 200, false}} {
		t := task{name: fmt.Sprintf("%d GET %s", r.requests, r.path), size: middle, do: apiRate(r.path, r.requests)}
		if r.many {
			t.name += fmt.Sprintf(" of %d containers", listed)
			t.fill, t.end = apiMany(busybox), apiNoneOfMany
		}
		out = append(out, t)
	}
	for i := range out {
		out[i].image, out[i].setup = "busybox", docker("pull", "-q", busybox)
	}
	return out
}

// apiCycle runs a container without the docker command, over one connection.
func apiCycle(image string) step {
	return func(ctx context.Context, s *server) error {
		client := testbed.Client(s.cli.Host)
		defer client.CloseIdleConnections()
		return errors.Join(
			call(ctx, client, "POST", "/containers/create?name="+container, `{"Image":`+strconv.Quote(image)+`,"Cmd":["true"]}`, http.StatusCreated),
			call(ctx, client, "POST", "/containers/"+container+"/start", "", http.StatusNoContent),
			call(ctx, client, "POST", "/containers/"+container+"/wait", "", http.StatusOK),
			call(ctx, client, "DELETE", "/containers/"+container, "", http.StatusNoContent))
	}
}

// call sends one request and reads the answer to its end.
func call(ctx context.Context, client *http.Client, method, path, body string, want int) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://d/v1.41"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s, want %d", method, path, resp.Status, want)
	}
	return drain(resp.Body)
}

// apiRate asks for path so many times, connections of them at once.
func apiRate(path string, requests int) step {
	return func(ctx context.Context, s *server) error {
		var all sync.WaitGroup
		failed := make([]error, connections)
		for i := range connections {
			all.Go(func() {
				client := testbed.Client(s.cli.Host)
				defer client.CloseIdleConnections()
				for n := 0; n < requests/connections && failed[i] == nil; n++ {
					failed[i] = call(ctx, client, "GET", path, "", http.StatusOK)
				}
			})
		}
		all.Wait()
		return errors.Join(failed...)
	}
}

func manyName(i int) string { return container + "-" + strconv.Itoa(i) }

// apiMany makes the containers that a list is to show.
func apiMany(image string) step {
	return func(ctx context.Context, s *server) error {
		client := testbed.Client(s.cli.Host)
		defer client.CloseIdleConnections()
		for i := range listed {
			if err := call(ctx, client, "POST", "/containers/create?name="+manyName(i), `{"Image":`+strconv.Quote(image)+`,"Cmd":["true"]}`, http.StatusCreated); err != nil {
				return err
			}
		}
		return nil
	}
}

func apiNoneOfMany(ctx context.Context, s *server) error {
	client := testbed.Client(s.cli.Host)
	defer client.CloseIdleConnections()
	var failed []error
	for i := range listed {
		failed = append(failed, call(ctx, client, "DELETE", "/containers/"+manyName(i), "", http.StatusNoContent))
	}
	return errors.Join(failed...)
}
