"""Makes a user of the local cloud: NAME POLICY MANAGED, the last a list of parts of names of managed policies."""

import json
import os
import sys

import botocore.session

name, policy, managed = sys.argv[1:4]
iam = botocore.session.get_session().create_client(
    "iam", region_name=os.environ["AWS_REGION"], endpoint_url=os.environ["AWS_ENDPOINT_URL"]
)
iam.create_user(UserName=name)
if json.loads(policy):
    iam.put_user_policy(UserName=name, PolicyName="given", PolicyDocument=policy)
wanted = [part for part in managed.split(",") if part]
for found in iam.list_policies(Scope="Local", MaxItems=1000)["Policies"]:
    if any(part in found["PolicyName"] for part in wanted):
        iam.attach_user_policy(UserName=name, PolicyArn=found["Arn"])
        wanted = [part for part in wanted if part not in found["PolicyName"]]
if wanted:
    sys.exit(f"no managed policies named {wanted}")
key = iam.create_access_key(UserName=name)["AccessKey"]
print(json.dumps({"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}))
