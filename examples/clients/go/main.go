// Command client registers an endpoint and lists what is registered: `go run . SLUG URL`.
//
// The address is KONGFLOW_TARGET, or 127.0.0.1:50051; the API key is KONGFLOW_TOKEN. A refusal is exit code 1.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // so that the service config lets it leave a server that stops
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	kongflowv1 "example.com/kongflow-client/gen/kongflow/v1"
)

// It lets gRPC repeat what is safe to repeat.
const serviceConfig = "../../../gen/kongflow/v1/service_config.json"

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}

func run(slug, url string) error {
	target := os.Getenv("KONGFLOW_TARGET")
	if target == "" {
		target = "127.0.0.1:50051"
	}
	retries, err := os.ReadFile(serviceConfig)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(
		target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(retries)),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	endpoints := kongflowv1.NewEndpointServiceClient(connection)

	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("KONGFLOW_TOKEN"))
	made, err := endpoints.CreateEndpoint(ctx, &kongflowv1.CreateEndpointRequest{Slug: slug, Url: url})
	if err != nil {
		return err
	}
	word := "updated"
	if made.GetCreated() {
		word = "created"
	}
	fmt.Println(word, made.GetEndpoint().GetSlug())

	page, err := endpoints.ListEndpoints(ctx, &kongflowv1.ListEndpointsRequest{})
	if err != nil {
		return err
	}
	for _, one := range page.GetEndpoints() {
		fmt.Println(one.GetSlug(), strings.TrimPrefix(one.GetState().String(), "ENDPOINT_STATE_"), one.GetUrl())
	}
	return nil
}

// explain says why a call was refused: the reason, which docs/errors.md explains, and the fields it is about. What never
// reached the server has no reason but gRPC's status.
func explain(err error) string {
	refused := status.Convert(err)
	reason, lines := refused.Code().String(), ""
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				lines += fmt.Sprintf("\n  %s: %s", violation.GetField(), violation.GetDescription())
			}
		}
	}
	return fmt.Sprintf("refused: %s: %s%s", reason, refused.Message(), lines)
}
