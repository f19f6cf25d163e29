package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wasmeval/runtime"
)

// version is set by the linker.
var version = "devel"

// run is the whole program. It returns the exit code: 0, or 1 after it printed what went wrong; the
// child that compiles modules has exit codes of its own.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == runtime.CompileVerb { // this is a child of the server
		return runtime.CompileChild(args[1:], stdin, stdout)
	}
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "wasmeval: %v\n", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "wasmeval",
		Short: "Runs WebAssembly rules over a live stream of events",
		Long: `wasmeval is a server that runs user-uploaded WebAssembly rules over a live stream of events.
Events come in by HTTP and UDP; rules are uploaded, tested, swapped and rolled back while the
stream runs; verdicts go to files, webhooks and whoever listens.`,
		Example: `  wasmeval demo                          see it work: example rules, made-up events
  wasmeval serve --data-dir ./data       start the server
  wasmeval rules push limit limit.wasm   upload a rule to it and make it active
  wasmeval send events.ndjson            send events
  wasmeval tail                          watch the verdicts
  wasmeval init --lang go velocity       begin a rule of your own`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newServe(), newCheck(), newRules(), newSend(), newTail(), newLogs(), newLedger(),
		newDemo(), newBench(), newTest(), newReplay(), newDiff(),
		newInspect(), newInit(), newBuild(), newPush())
	return root
}

// flagError says what a flag expects, where the library would say what Go's parser does not like.
func flagError(_ *cobra.Command, err error) error {
	wrong := new(pflag.InvalidValueError)
	if !errors.As(err, &wrong) {
		return err
	}
	expected := map[string]string{
		"bool": "true or false", "duration": "a time such as 500ms or 2s", "float64": "a number",
		"int": "a whole number", "int32": "a whole number of 32 bits",
		"uint32": "a whole number from 0, of 32 bits", "uint64": "a whole number from 0",
	}[wrong.GetFlag().Value.Type()]
	if expected == "" {
		return err
	}
	return fmt.Errorf("--%s %q: expected %s", wrong.GetFlag().Name, wrong.GetValue(), expected)
}

// helpOnly is what a command does that only has others below it. Without it a misspelt one would
// get the help and exit code 0, and a script would go on.
func helpOnly(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func newServe() *cobra.Command {
	var configured func() (*Config, error)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Long: `Starts the server. Every option is a flag, an environment variable (WASMEVAL_ and the flag's
name) and a key of the YAML file; flags win over the environment, the environment over the file.
What is misspelt in any of the three is a fault. Routes and sinks stand in the file only.
"wasmeval check --options" lists all of them.`,
		Example: `  wasmeval serve
  wasmeval serve --config wasmeval.yaml --log-level debug
  wasmeval serve --key user.id --udp ''
  WASMEVAL_HTTP=127.0.0.1:9090 wasmeval serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configured()
			if err != nil {
				return fmt.Errorf("the configuration has faults:\n%w", err)
			}
			return serve(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	configured = addConfigFlags(cmd)
	return cmd
}

// flagValue is a flag of the options table. Its text is parsed with all the others, so that all
// faults are told at once.
type flagValue struct {
	option *option
	given  map[string]string
}

// String is the text that the help shows as the default.
func (f *flagValue) String() string {
	if f.option == nil {
		return "" // cobra asks a zero value what its default is
	}
	if text, ok := f.given[f.option.flag]; ok {
		return text
	}
	return f.option.standard
}

// Set takes the text as it is. A list that is given several times is all of them together.
func (f *flagValue) Set(text string) error {
	if before, ok := f.given[f.option.flag]; ok && f.option.kind() == "list" {
		text = before + "," + text
	}
	f.given[f.option.flag] = text
	return nil
}

// Type is the word that stands for the value in the help.
func (f *flagValue) Type() string { return f.option.kind() }

// addConfigFlags adds --config and a flag for each option to cmd, or for those that are named, and
// returns the function that loads the configuration once the flags are parsed.
func addConfigFlags(cmd *cobra.Command, only ...string) func() (*Config, error) {
	given := make(map[string]string)
	file := cmd.Flags().String("config", "", "configuration file, YAML ("+configEnv+")")
	for i := range options {
		o := &options[i]
		if len(only) > 0 && !slices.Contains(only, o.flag) {
			continue
		}
		f := cmd.Flags().VarPF(&flagValue{o, given}, o.flag, "", o.help)
		if o.kind() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	cmd.Flags().SortFlags = false
	return func() (*Config, error) {
		name := *file
		if !cmd.Flags().Changed("config") {
			name = os.Getenv(configEnv)
		}
		return load(inputs{flags: given, env: os.Environ(), file: name})
	}
}
