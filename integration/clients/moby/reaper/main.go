// Reaper does for the test of testcontainers what Ryuk does, whose module the tests can't get: it runs in a container with the server's socket in it,
// hears on port 8080 which labels count, and removes the containers and networks that have them when nobody has been connected for a second.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "reaper:", err)
		os.Exit(1)
	}
}

// session is what clients have asked for.
type session struct {
	mu      sync.Mutex
	filters []client.Filters
	left    chan struct{} // a client went
	clients int
}

func run(ctx context.Context) error {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	fmt.Println("Started")
	s := &session{left: make(chan struct{}, 100)}
	go func() { // ends with the program
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	for {
		<-s.left
		time.Sleep(time.Second)
		s.mu.Lock()
		alone := s.clients == 0 && len(s.filters) > 0
		s.mu.Unlock()
		if alone {
			return s.reap(ctx, c)
		}
	}
}

// serve reads filters, a line each, and says that it has them.
func (s *session) serve(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	s.clients++
	s.mu.Unlock()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		f := client.Filters{}
		for pair := range strings.SplitSeq(lines.Text(), "&") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				if v, err := url.QueryUnescape(v); err == nil {
					f.Add(k, v)
				}
			}
		}
		s.mu.Lock()
		s.filters = append(s.filters, f)
		s.mu.Unlock()
		fmt.Fprint(conn, "ACK\n")
	}
	s.mu.Lock()
	s.clients--
	s.mu.Unlock()
	s.left <- struct{}{}
}

func (s *session) reap(ctx context.Context, c *client.Client) error {
	for _, f := range s.filters {
		list, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: f})
		if err != nil {
			return err
		}
		for _, one := range list.Items {
			if _, err := c.ContainerRemove(ctx, one.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
				return err
			}
			fmt.Println("removed", one.ID)
		}
		nets, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: f})
		if err != nil {
			return err
		}
		for _, one := range nets.Items {
			if _, err := c.NetworkRemove(ctx, one.ID, client.NetworkRemoveOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}
