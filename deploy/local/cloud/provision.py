"""Creates everything in the local cloud from the CloudFormation template, then the device's certificate.

usage: provision.py --endpoint URL --template FILE --keys DIR [--parameter NAME=VALUE]...

Prints one JSON object: {"stack", "resources", "missing": [{"resource", "type", "why"}], "device": {"ca", "cert", "key",
"host", "client_id", "topic"}, "outputs"}. Exits 1 if the stack or the certificate could not be made.
"""

import argparse
import json
import os
import sys
import time
import urllib.request

import botocore.config
import botocore.exceptions
import botocore.session
import yaml

STACK = "speedtrap"
THING = "RTRPIIOT"
POLICY = "rtr-iot-device"
TOPIC = "rtr/iot/trafficdata"
TEMPLATE_BODY_LIMIT = 51_200
# The local cloud listens on loopback without TLS; a bucket that demands it would refuse everybody.
LOCAL = {"RequireTls": "false"}


class TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short tags (!Ref, !Sub, ...) as plain values: only names and types are looked at here."""


def _plain(loader, _suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


TemplateLoader.add_multi_constructor("!", _plain)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Creates the data part in the local cloud")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--template", required=True)
    parser.add_argument("--keys", required=True, help="folder for the device's certificate and key")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--timeout", type=float, default=60)
    return parser.parse_args()


def client(service, endpoint):
    config = botocore.config.Config(retries={"max_attempts": 2}, read_timeout=60)
    # botocore itself looks only at AWS_DEFAULT_REGION.
    region = os.environ.get("AWS_REGION", "us-east-1")
    return botocore.session.get_session().create_client(
        service, region_name=region, endpoint_url=endpoint, config=config
    )


def deploy(cloudformation, body, parameters, timeout):
    """Creates the stack and waits for its end; returns its description."""
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=body,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
    deadline = time.monotonic() + timeout
    while True:
        stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        if time.monotonic() > deadline:
            raise TimeoutError(f"stack {STACK} is still {stack['StackStatus']} after {timeout:g} s")
        time.sleep(0.1)


def find_missing(cloudformation, body, parameters):
    """Every resource of the template that did not come out, with the cloud's own reason."""
    template = yaml.load(body, TemplateLoader)
    made = {r["LogicalResourceId"]: r for r in cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]}
    reasons = {}
    for event in cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]:
        if event["ResourceStatus"].endswith("FAILED"):
            reasons.setdefault(event["LogicalResourceId"], event.get("ResourceStatusReason", "no reason given"))
    switched_off = set()
    if parameters.get("RawTable") == "false":
        switched_off.add("HasRawTable")
    if not parameters.get("OperatorEmail"):
        switched_off.add("HasOperatorEmail")
    if parameters.get("RequireTls") == "false":
        switched_off.add("RequiresTls")
    missing = []
    for name, resource in template["Resources"].items():
        if resource.get("Condition") in switched_off:
            continue
        found = made.get(name)
        if found and found["ResourceStatus"] == "CREATE_COMPLETE" and found.get("PhysicalResourceId"):
            continue
        why = reasons.get(name) or (found or {}).get("ResourceStatusReason") or "the local cloud passed it over"
        missing.append({"resource": name, "type": resource["Type"], "why": why})
    return missing


def write_private(path, content):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def register_device(iot, endpoint, folder):
    """Makes a certificate, binds it to thing and policy, and writes what the device needs to connect."""
    made = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_policy(policyName=POLICY, target=made["certificateArn"])
    iot.attach_thing_principal(thingName=THING, principal=made["certificateArn"])
    paths = {name: os.path.join(folder, f"{name}.pem") for name in ("ca", "cert", "key")}
    with urllib.request.urlopen(endpoint + "/_ministack/iot/ca.pem", timeout=10) as answer:
        write_private(paths["ca"], answer.read())
    write_private(paths["cert"], made["certificatePem"].encode())
    write_private(paths["key"], made["keyPair"]["PrivateKey"].encode())
    return {**paths, "host": "127.0.0.1", "client_id": THING, "topic": TOPIC}


def main():
    arguments = parse_arguments()
    parameters = LOCAL | dict(parameter.split("=", 1) for parameter in arguments.parameter)
    with open(arguments.template, encoding="utf-8") as file:
        body = file.read()
    if len(body.encode()) > TEMPLATE_BODY_LIMIT:
        sys.exit(f"{arguments.template} is longer than the {TEMPLATE_BODY_LIMIT} bytes CloudFormation takes directly")
    os.makedirs(arguments.keys, mode=0o700, exist_ok=True)

    cloudformation = client("cloudformation", arguments.endpoint)
    stack = deploy(cloudformation, body, parameters, arguments.timeout)
    missing = find_missing(cloudformation, body, parameters)
    result = {"stack": stack["StackStatus"], "missing": missing}
    if stack["StackStatus"] != "CREATE_COMPLETE":
        result["why"] = stack.get("StackStatusReason", "no reason given")
        print(json.dumps(result))
        sys.exit(f"stack {STACK} ended as {stack['StackStatus']}: {result['why']}")
    result["resources"] = len(cloudformation.describe_stack_resources(StackName=STACK)["StackResources"])
    result["outputs"] = {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}
    result["device"] = register_device(client("iot", arguments.endpoint), arguments.endpoint, arguments.keys)
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError) as error:
        sys.exit(f"provisioning failed: {error}")
