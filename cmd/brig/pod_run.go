package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/podspec"
)

// An exitCode ends brig with that code; what there is to say has been said, unless err isn't nil.
type exitCode struct {
	code int
	err  error
}

func (e *exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitCode) Unwrap() error { return e.err }

// notRun is the code of a pod that didn't come to run, as docker run has it.
const notRun = 125

// notStarted gives a failed start the code that a shell would: 127 for a program that isn't there, 126 for one that can't be executed.
func notStarted(err error) error {
	code := notRun
	switch text := err.Error(); {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		code = 127
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"):
		code = 126
	}
	return &exitCode{code, err}
}

func podPrepare(host *string) *cobra.Command {
	var o ordering
	cmd := &cobra.Command{
		Use: "prepare [OPTIONS] [IMAGE [APP OPTIONS] [-- ARG…] [--- IMAGE …]]", Short: "Make a pod without starting it, and print its UUID",
		Long: "Make a pod without starting it, and print its UUID. Either all of it is made, or nothing.\n" + o.usage(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, args); err != nil {
				return err
			}
			c, err := dial(*host)
			if err != nil {
				return err
			}
			made, err := o.make(cmd, c)
			if err == nil && !o.dryRun {
				fmt.Fprintln(cmd.OutOrStdout(), made.UUID)
			}
			return err
		},
	}
	o.podFlags(cmd)
	return cmd
}

func podRun(host *string, name, short string) *cobra.Command {
	var o ordering
	var w watching
	detach := false
	cmd := &cobra.Command{
		Use: name + " [OPTIONS] [IMAGE [APP OPTIONS] [-- ARG…] [--- IMAGE …]]", Short: short,
		Long: "Make a pod, start it, and print what its apps say, each line with the time and the app's name, until all of them have ended: one\n" +
			"app's end doesn't end the others. Standard error goes to standard error. ^C stops the pod, a second one kills it.\n" +
			"The exit code is that of the first app, in the pod's order, whose own isn't 0; 125, 126 or 127 if the pod did not come to run, as docker run has\n" +
			"them; then nothing is left of it.\n" + o.usage(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, args); err != nil {
				return &exitCode{notRun, err}
			}
			if detach && (o.Stdin || o.TTY) {
				return &exitCode{notRun, errors.New("-d and -i or -t exclude each other")}
			}
			c, err := dial(*host)
			if err != nil {
				return &exitCode{notRun, err}
			}
			made, err := o.make(cmd, c)
			if err != nil {
				return &exitCode{notRun, err}
			}
			if o.dryRun {
				return nil
			}
			if !detach {
				w.order = &o
				return w.run(cmd, c, made)
			}
			if err := c.startOrRemove(cmd.Context(), made.UUID); err != nil {
				return notStarted(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), made.UUID)
			return nil
		},
	}
	o.podFlags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&detach, "detach", "d", false, "print the pod's UUID when it runs, and leave it running")
	f.BoolVar(&o.Remove, "rm", false, "remove the pod when the last of its apps has ended")
	f.BoolVarP(&o.Stdin, "interactive", "i", false, "give the only app standard input")
	f.BoolVarP(&o.TTY, "tty", "t", false, "give the only app a terminal")
	f.BoolVar(&w.plain, "no-prefix", false, "print what the apps say as it is, without times and names")
	return cmd
}

// make makes the pod, with a dry run only its manifest, which it prints. Images that are missing are pulled first. Warnings go to standard error.
func (o *ordering) make(cmd *cobra.Command, c *client) (*podspec.Made, error) {
	path := "/brig/v1/pods"
	if o.dryRun {
		path += "?dryRun=1"
	}
	if o.pull == "always" {
		for _, a := range o.Apps {
			if err := o.fetch(cmd, c, a.Image); err != nil {
				return nil, err
			}
		}
	}
	var made podspec.Made
	pulled := map[string]bool{}
	for {
		err := c.order(cmd.Context(), path, &o.Order, &made)
		if err == nil {
			break
		}
		missing, ok := strings.CutPrefix(err.Error(), "No such image: ")
		if status(err) != http.StatusNotFound || !ok || o.pull != "missing" {
			return nil, err
		}
		if missing = o.named(missing); missing == "" || pulled[missing] {
			return nil, err
		}
		pulled[missing] = true
		if e := o.fetch(cmd, c, missing); e != nil {
			return nil, fmt.Errorf("%w; pull it: %w", err, e)
		}
	}
	for _, i := range made.Isolators {
		if i.App != "" {
			i.Name = i.App + "'s " + i.Name
		}
		if i.Result == podspec.Enforced {
			fmt.Fprintf(cmd.ErrOrStderr(), "isolator %s is %s\n", i.Name, i.Result)
		}
	}
	for _, w := range made.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
	if o.dryRun {
		return &made, printJSON(cmd.OutOrStdout(), made.Manifest)
	}
	return &made, nil
}

// named finds the app whose image brigd calls missing, as the command line has it; "": none, or it is no name that a registry could know.
func (o *ordering) named(missing string) string {
	for _, a := range o.Apps {
		n, err := reference.ParseNormalizedNamed(a.Image)
		if err == nil && (a.Image == missing || reference.FamiliarString(reference.TagNameOnly(n)) == missing) {
			return a.Image
		}
	}
	return ""
}

// fetch has brigd pull an image from its registry, with docker's login; progress goes to standard error.
func (o *ordering) fetch(cmd *cobra.Command, c *client, image string) error {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return err
	}
	auth, err := o.login.find(cmd.Context(), cmd.InOrStdin(), reference.Domain(named))
	if err != nil {
		return err
	}
	token, err := json.Marshal(map[string]string{"username": auth.Username, "password": auth.Password, "identitytoken": auth.IdentityToken, "registrytoken": auth.RegistryToken})
	if err != nil {
		return err
	}
	q := url.Values{"fromImage": {reference.FamiliarString(reference.TagNameOnly(named))}}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, "http://brig/images/create?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(token))
	answer, err := c.do(req)
	if err != nil {
		return err
	}
	defer answer.Close()
	for d := json.NewDecoder(answer); ; {
		var l struct {
			ID, Status, Error string
			Progress          any `json:"progressDetail"`
		}
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read brigd's answer: %w", err)
		}
		if l.Error != "" {
			return errors.New(l.Error)
		}
		if l.ID == "" {
			fmt.Fprintln(cmd.ErrOrStderr(), l.Status)
		}
	}
}

// startOrRemove starts a pod that was made for this; one that can't be started is removed.
func (c *client) startOrRemove(ctx context.Context, uuid string) error {
	err := c.order(ctx, podPath(uuid)+"/start", nil, nil)
	if err == nil {
		return nil
	}
	if e := c.remove(context.WithoutCancel(ctx), podPath(uuid)+"?force=1"); e != nil && status(e) != http.StatusNotFound {
		fmt.Fprintln(os.Stderr, "brig: remove the pod that didn't start:", e)
	}
	return err
}
