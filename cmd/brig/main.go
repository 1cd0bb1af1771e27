// Brig is the operator's command line for what Docker has no words for. It talks to brigd's socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err == nil {
		return
	}
	code := 1
	if e := (*exitCode)(nil); errors.As(err, &e) {
		code, err = e.code, e.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "brig:", err)
	}
	os.Exit(code)
}

// command is the tree of commands; one file per noun.
func command() *cobra.Command {
	host := os.Getenv("BRIG_HOST")
	if host == "" {
		host = "unix:///var/run/brig.sock"
	}
	root := &cobra.Command{
		Use:           "brig",
		Short:         "App Containers on brigd: what the docker command has no words for",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&host, "host", "H", host, "brigd's socket, unix://PATH or tcp://ADDRESS:PORT (default: $BRIG_HOST)")
	root.AddCommand(buildCommand(&host), gcCommand(&host), doctorCommand(&host), imageCommand(&host), trustCommand(&host), untrustCommand(&host), verifyCommand(&host), mdsCommand(&host), convertCommand(), checkCommand(&host),
		podCommand(&host), podRun(&host, "run", "Make a pod and run it: brig pod run"))
	return root
}
