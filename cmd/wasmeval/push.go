package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

func newPush() *cobra.Command {
	var off bool
	var config ruleConfigFlags
	cmd := &cobra.Command{
		Use:   "push [NAME] [MODULE]",
		Short: "Build a rule's project if need be, and upload it to the server",
		Long: `Uploads the module of the project in the working folder, which is built before if it is missing or
older than a source, and makes it active; the rule has the project's name unless NAME is given. Sources
are the files of the project's language: after a change of another one that they embed, run "wasmeval
build" first. Then it tells what has changed against the version that was active before. With MODULE no
project is needed. Otherwise it is as "rules push", which takes the same flags.`,
		Example: `  wasmeval push
  wasmeval push velocity --param limit=5
  wasmeval push velocity velocity.wasm --server http://127.0.0.1:9090`,
		Args: cobra.MaximumNArgs(2),
	}
	v := &rulesVerbs{client: addClientFlags(cmd)}
	cmd.PersistentFlags().BoolVar(&v.asJSON, "json", false, "print the server's answer as JSON")
	cmd.Flags().BoolVar(&off, "no-activate", false, "upload only; activate it later")
	config.addTo(cmd, resetPush)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, module, err := projectModule(cmd, args)
		if err != nil {
			return err
		}
		c, err := v.client()
		if err != nil {
			return err
		}
		var before runtime.Rule
		_, err = c.get(cmd.Context(), rulePath(name), nil, &before)
		var answer *apiError
		if err != nil && (!errors.As(err, &answer) || answer.Status != http.StatusNotFound) {
			return pushAdvice(name, err)
		}
		var put runtime.PutResult
		if err := v.upload(cmd, name, module, off, &config, &put); err != nil || v.asJSON {
			return err
		}
		var after runtime.Rule
		if _, err := c.get(cmd.Context(), rulePath(name), nil, &after); err != nil {
			return pushAdvice(name, err)
		}
		return showChange(cmd.OutOrStdout(), &before, &after)
	}
	return cmd
}

// pushAdvice says what to do where no upload can be made.
func pushAdvice(name string, err error) error {
	err = fmt.Errorf("cannot push rule %q: %w", name, err)
	var answer *apiError
	if errors.As(err, &answer) {
		return err // the server runs, and says what is wrong
	}
	return fmt.Errorf("%w; start the server with `wasmeval serve`, or name it with --server", err)
}

// projectModule finds the rule's name and its module, which is built if it is that of a project.
func projectModule(cmd *cobra.Command, args []string) (name, module string, err error) {
	if len(args) == 2 {
		return args[0], args[1], nil
	}
	p, err := openProject(".")
	if err != nil {
		return "", "", err
	}
	stale, err := p.stale()
	if err != nil {
		return "", "", fmt.Errorf("cannot look into project %q: %w", p.dir, err)
	}
	if stale {
		c, err := load(inputs{})
		if err != nil {
			return "", "", err
		}
		if err := p.build(cmd.Context(), c, cmd.ErrOrStderr(), cmd.ErrOrStderr()); err != nil {
			return "", "", err
		}
	}
	return firstOf(slices.Concat(args, []string{p.name})...), p.module(), nil
}

// showChange tells what of a rule's manifest is new and what is gone.
func showChange(w io.Writer, before, after *runtime.Rule) error {
	var old, now []string
	if before.Manifest != nil {
		old = manifestLines(before.Manifest)
	}
	if after.Manifest != nil {
		now = manifestLines(after.Manifest)
	}
	fmt.Fprintf(w, "active: %s, before: %s\n", versionOr(after.Active, "none"),
		versionOr(before.Active, "none"))
	for _, line := range old {
		if !slices.Contains(now, line) {
			fmt.Fprintf(w, "- %s\n", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			fmt.Fprintf(w, "+ %s\n", line)
		}
	}
	return nil
}
