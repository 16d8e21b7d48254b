import { Descriptor, fieldType, labelOptional } from "./descriptor-writer.js";

/**
 * The descriptor of grpc/health/v1/health.proto, for reflection. Built here: the health package loads the file through
 * protobufjs, whose descriptor of a map field (HealthListResponse) other implementations refuse. Its List method is
 * left out; Check and Watch are what probes call.
 */
export function healthDescriptor(): Uint8Array {
  const scope = ".grpc.health.v1.";
  const file = new Descriptor();
  file.text(1, "grpc/health/v1/health.proto").text(2, "grpc.health.v1").text(12, "proto3");
  file.child(4, (message) => {
    message.text(1, "HealthCheckRequest");
    message.child(2, (field) =>
      field.text(1, "service").number(3, 1).number(4, labelOptional).number(5, fieldType.text),
    );
  });
  file.child(4, (message) => {
    message.text(1, "HealthCheckResponse");
    message.child(2, (field) => {
      field.text(1, "status").number(3, 1).number(4, labelOptional).number(5, fieldType.enumeration);
      field.text(6, `${scope}HealthCheckResponse.ServingStatus`);
    });
    message.child(4, (status) => {
      status.text(1, "ServingStatus");
      ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].forEach((name, value) => {
        status.child(2, (entry) => entry.text(1, name).number(2, value));
      });
    });
  });
  file.child(6, (service) => {
    service.text(1, "Health");
    for (const name of ["Check", "Watch"]) {
      service.child(2, (method) => {
        method.text(1, name).text(2, `${scope}HealthCheckRequest`).text(3, `${scope}HealthCheckResponse`);
        if (name === "Watch") method.number(6, 1);
      });
    }
  });
  return file.bytes();
}
