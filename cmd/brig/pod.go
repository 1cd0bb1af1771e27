package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/podspec"
)

func podCommand(host *string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pod", Short: "Pods: apps that share network, IPC, host name and volumes",
		Long: "Pods: apps that share network, IPC, host name and volumes, each with a file system of its own (appc specification).\n" +
			"docker sees each app as a container called POD-APP. A container that docker made is a pod of one app.\n" +
			"A POD is given by its name, its UUID, or so much of the UUID that no other pod's begins like it.",
	}
	cmd.AddCommand(podRun(host, "run", "Make a pod and run it"), podPrepare(host), podList(host), podPs(host), podInspect(host), podLogs(host), podExec(host), podConsole(host),
		podStart(host), podStop(host), podKill(host), podRemove(host))
	return cmd
}

// eachPod does something to all pods named, and says which it was done to, or why not.
func eachPod(cmd *cobra.Command, host string, refs []string, do func(ctx context.Context, c *client, path string) error) error {
	c, err := dial(host)
	if err != nil {
		return err
	}
	var failed error
	for _, ref := range refs {
		err := do(cmd.Context(), c, podPath(ref))
		if err != nil && status(err) != http.StatusNotModified {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), ref)
	}
	return failed
}

func podPath(ref string) string { return "/brig/v1/pods/" + url.PathEscape(ref) }

func podStart(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "start POD…", Args: cobra.MinimumNArgs(1), Short: "Start the apps of pods that don't run: of each pod all or, if one can't be started, none",
		RunE: func(cmd *cobra.Command, refs []string) error {
			return eachPod(cmd, *host, refs, func(ctx context.Context, c *client, path string) error { return c.order(ctx, path+"/start", nil, nil) })
		},
	}
}

func podStop(host *string) *cobra.Command {
	timeout, sig := "", ""
	cmd := &cobra.Command{
		Use: "stop POD…", Args: cobra.MinimumNArgs(1), Short: "Stop pods: all their apps at once, each as docker stop does",
		RunE: func(cmd *cobra.Command, refs []string) error {
			q := url.Values{"t": {timeout}, "signal": {sig}}.Encode()
			return eachPod(cmd, *host, refs, func(ctx context.Context, c *client, path string) error {
				return c.order(ctx, path+"/stop?"+q, nil, nil)
			})
		},
	}
	cmd.Flags().StringVarP(&timeout, "time", "t", "", "`SECONDS` until apps that don't end are killed (default: as each app says, else 10)")
	cmd.Flags().StringVarP(&sig, "signal", "s", "", "`SIGNAL` that asks them to end (default: as each app says, else TERM)")
	return cmd
}

func podKill(host *string) *cobra.Command {
	sig := ""
	cmd := &cobra.Command{
		Use: "kill POD…", Args: cobra.MinimumNArgs(1), Short: "Send a signal to the main processes of all apps of pods",
		RunE: func(cmd *cobra.Command, refs []string) error {
			return eachPod(cmd, *host, refs, func(ctx context.Context, c *client, path string) error {
				return c.order(ctx, path+"/kill?"+url.Values{"signal": {sig}}.Encode(), nil, nil)
			})
		},
	}
	cmd.Flags().StringVarP(&sig, "signal", "s", "", "`SIGNAL`, by name or number (default: KILL)")
	return cmd
}

func podRemove(host *string) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use: "rm POD…", Args: cobra.MinimumNArgs(1), Short: "Remove pods with all their apps and the volumes that were made for them",
		RunE: func(cmd *cobra.Command, refs []string) error {
			return eachPod(cmd, *host, refs, func(ctx context.Context, c *client, path string) error {
				return c.remove(ctx, path+"?force="+strconv.FormatBool(force))
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill what runs")
	return cmd
}

func podList(host *string) *cobra.Command {
	quiet, running := false, false
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Args: cobra.NoArgs, Short: "List pods, the newest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := listPods(cmd.Context(), *host, nil)
			if err != nil {
				return err
			}
			if running {
				all = slices.DeleteFunc(all, func(p podspec.Info) bool { return p.State != podspec.StateRunning })
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "UUID\tNAME\tSTATE\tAPPS\tADDRESSES\tCREATED")
			}
			for _, p := range all {
				if quiet {
					fmt.Fprintln(w, p.UUID)
					continue
				}
				var names []string
				for _, a := range p.Apps {
					names = append(names, a.Name)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s ago\n", p.UUID, p.Name, p.State, strings.Join(names, ","), addresses(p.Networks), units.HumanDuration(time.Since(p.Created)))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print UUIDs alone")
	cmd.Flags().BoolVarP(&running, "running", "r", false, "list pods alone of which an app runs")
	return cmd
}

// addresses are NETWORK=ADDRESS, as far as there are any.
func addresses(nets map[string]podspec.Place) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(nets)) {
		at := nets[name].IPv4
		if !at.IsValid() {
			at = nets[name].IPv6
		}
		out = append(out, name+"="+at.String())
	}
	return cmp.Or(strings.Join(out, ","), "-")
}

// listPods returns all pods, or those that refs name.
func listPods(ctx context.Context, host string, refs []string) (out []podspec.Info, err error) {
	c, err := dial(host)
	if err != nil {
		return nil, err
	}
	if len(refs) == 0 {
		return out, c.decode(ctx, "/brig/v1/pods", &out)
	}
	for _, ref := range refs {
		p, err := c.pod(ctx, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, *p)
	}
	return out, nil
}

func (c *client) pod(ctx context.Context, ref string) (*podspec.Info, error) {
	var p podspec.Info
	return &p, c.decode(ctx, podPath(ref)+"/json", &p)
}

func podPs(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "ps [POD…]", Short: "List the apps of pods, or of all pods, one a line",
		RunE: func(cmd *cobra.Command, refs []string) error {
			all, err := listPods(cmd.Context(), *host, refs)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "POD\tAPP\tCONTAINER\tIMAGE\tSTATE\tPID\tPORTS")
			for _, p := range all {
				for _, a := range p.Apps {
					state, pid := a.State, "-"
					if a.State == "exited" {
						state = fmt.Sprintf("exited (%d)", a.ExitCode)
					}
					if a.PID != 0 {
						pid = strconv.Itoa(a.PID)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, a.Name, a.Container[:min(12, len(a.Container))], a.Image, state, pid, cmp.Or(strings.Join(a.Ports, ","), "-"))
				}
			}
			return w.Flush()
		},
	}
}

func podInspect(host *string) *cobra.Command {
	manifest := false
	cmd := &cobra.Command{
		Use: "inspect POD…", Args: cobra.MinimumNArgs(1), Short: "Print all that is known of pods, as a JSON array",
		RunE: func(cmd *cobra.Command, refs []string) error {
			all, err := listPods(cmd.Context(), *host, refs)
			if err != nil {
				return err
			}
			if !manifest {
				return printJSON(cmd.OutOrStdout(), all)
			}
			for _, p := range all {
				if len(p.Manifest) == 0 {
					return fmt.Errorf("pod %s has no manifest", p.Name)
				}
				if err := printJSON(cmd.OutOrStdout(), p.Manifest); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&manifest, "manifest", false, "print their reified pod manifests alone")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// app finds the app of a pod that is meant; "" means the only one. ref may also be the container of the app.
func (c *client) app(ctx context.Context, ref, name string) (*podspec.AppInfo, error) {
	p, err := c.pod(ctx, ref)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range p.Apps {
		a := &p.Apps[i]
		if a.Name == name || name == "" && (len(p.Apps) == 1 || ref == p.Name+"-"+a.Name || ref == a.Container) {
			return a, nil
		}
		names = append(names, a.Name)
	}
	if name == "" {
		return nil, fmt.Errorf("pod %s has several apps: say with --app which is meant, %s", p.Name, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("pod %s has no app %s: its apps are %s", p.Name, name, strings.Join(names, ", "))
}
